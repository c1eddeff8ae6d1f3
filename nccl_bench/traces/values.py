"""Reads values that other people wrote. A function returns a value of its type, or an empty value or ``None``."""

import json
import math
import re
from typing import Any

from nccl_bench.catalog.bounds import LARGEST

# The most entries of a list that is written as a text, such as the ranks of a group.
_LONGEST_LIST = 1_000_000


def whole(value: Any) -> int | None:
    """Return ``value`` as an integer from 0 to 2^63, also from a text or a float; ``None`` if that is impossible."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST else None


def number_before(head: bytes, key: str, end: str) -> int | None:
    """Return the whole number of ``key`` in the beginning of a JSON file, before ``end``; ``None`` if it is absent."""
    return next(iter(numbers_before(head, key, end)), None)


def numbers_before(head: bytes, key: str, end: str) -> list[int]:
    """Return every whole number of ``key`` in the beginning of a JSON file, before ``end``."""
    before = head.partition(b'"%s"' % end.encode())[0]
    return [*map(int, re.findall(rb'"%s"\s*:\s*(\d{1,9})\b' % key.encode(), before))]


def mapping(value: Any) -> dict[str, Any]:
    """Return ``value`` if it is an object; else an empty object."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """Return ``value`` as a list if it is a list, a tuple, or a text with a JSON list; else an empty list."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    return list(value) if isinstance(value, list | tuple) and len(value) <= _LONGEST_LIST else []


def text(value: Any) -> str:
    """Return ``value`` if it is a text; else an empty text."""
    return value if isinstance(value, str) else ""


def elements(shapes: Any) -> int:
    """Return the number of elements of all tensors with these shapes."""
    total = 0
    for shape in sequence(shapes):
        sizes = [whole(size) for size in sequence(shape)]
        if len(sizes) <= 64 and None not in sizes:
            total = min(LARGEST + 1, total + math.prod(size for size in sizes if size is not None))
    return total


def is_uneven(*splits: Any) -> bool:
    """Return True if any of the lists of block sizes has two different sizes."""
    return any(len({repr(size) for size in sequence(each)}) > 1 for each in splits)
