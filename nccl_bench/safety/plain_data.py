"""Limits of plain data that was read from JSON or TOML. Other code can safely use data within these limits."""

import json
import math
from typing import Any

from nccl_bench.catalog.bounds import LARGEST

# The deepest nesting of objects and lists. Our own files have at most 8 levels, and code that walks data is recursive.
DEEPEST = 32


def refuse_unbounded(value: object) -> None:
    """Raise ``ValueError`` if ``value`` is nested too deeply, or has a number or a text that cannot be written again.

    Such a number is infinite, NaN, or an integer beyond 64 bits. Such a text contains half of a surrogate pair.
    """
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for each in level:
            kind = type(each)
            if kind is dict:
                below.extend(each)
                below.extend(each.values())
            elif kind is list:
                below.extend(each)
            elif kind is str:
                if not each.isascii():
                    _refuse_surrogates(each)
            elif (kind is float and not math.isfinite(each)) or (kind is int and abs(each) > LARGEST):
                rule = "it has to be finite" if kind is float else "it has to be between -2^63 and 2^63"
                raise ValueError(f"{_place_of(value, each, DEEPEST)} is {_shown(each)}: {rule}")
        if not below:
            return
        level = below
    raise ValueError(f"it is nested more than {DEEPEST} levels deep")


def _shown(number: float) -> str:
    # Python refuses to write an integer of thousands of digits.
    return "too large" if isinstance(number, int) and number.bit_length() > 10_000 else json.dumps(number)[:60]


def _place_of(value: object, sought: object, levels: int) -> str | None:
    """Return the path in ``value`` to ``sought``, such as ``config.sizes[3]``; ``None`` if it is not there."""
    if value is sought:
        return ""
    if levels == 0 or not isinstance(value, dict | list):
        return None
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        path = _place_of(item, sought, levels - 1)
        if path is not None:
            step = shown_key(key) if isinstance(key, str) else f"[{key}]"
            return step + (f".{path}" if path and not path.startswith("[") else path)
    return None


def shown_key(key: str) -> str:
    """Return the key of an object for a message: on one line, shortened."""
    return key if key.isprintable() and len(key) <= 60 else ascii(key[:60])


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"it has a text with {text[error.start]!r}, which is no character") from error
