"""Changes of files for fuzzing: of parsed JSON by its structure, of text by its lines, and of any bytes."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

# Values that a damaged or hostile file can have in any place.
_NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 7, 1000, 10**6, 10**9, 2**31, 2**53 + 1, 2**62, 2**63 - 1, -(2**63), 2**63, 10**30),
    *(0.0, -0.0, 0.5, 1.5, -1.0, 5e-324, 1e-300, 1e-9, 1e-3, 1e15, 1e100, 1e300, 1e308, 1.7976931348623157e308),
)
_TEXTS = (
    *("", " ", "\n", "\r", "\t", "\0", "\x1b[31m", "\x1b]8;;http://x\x07", "\u202e", "\ud800", "\U0001f600", "a" * 300),
    *(
        "null",
        "true",
        "nan",
        "inf",
        "-1",
        "0",
        "1e999",
        "1_0",
        "\u0661",
        "None",
        "ok",
        "cuda",
        "cpu",
        "=1+1",
        "<b>",
        "[x]",
    ),
    *("/", "..", "/dev/zero", "a.py:b", "%s", "{0}", "all_reduce", "all", "eager", "graph", "nccl-tests", ":twin"),
    *("stream-free", "dedicated-stream", "torch", "before", "after", "8:1G:x2", "2025-13-45T99:99:99", "x,y", "|", "`"),
)
_OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], [1], ["a"], {"a": 1}, {"": None}, [[1, "a"], {}])
# Pieces of which a very long line can be made.
_REPEATED = (
    *" \t\r0a#-_.,:;=\"'[]{}()<>|/\\*\x1b\0\ufffd",
    "  #",
    "[0] ",
    "1 2 ",
    "a=b,",
    "::",
    "../",
    "\x1b[0m",
    "\\x1b",
)
VALUES = (*_NUMBERS, *_TEXTS, *_OTHERS)


def change_json(chance: random.Random, value: Any) -> Any:
    """Return a copy of parsed JSON with one to three changes at random places."""
    value = [copy.deepcopy(value)]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if places := list(_places(value)):
            holder, key = chance.choice(places)
            # A number can be too large for a calculation; then this change is left out.
            with suppress(OverflowError):
                chance.choice(_JSON_CHANGES)(chance, holder, key, places)
    return value[0] if value else None


def change_lines(chance: random.Random, text: str) -> str:
    """Return ``text`` with one to three lines dropped, doubled, moved, cut, joined or changed."""
    lines = text.split("\n")
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = chance.randrange(len(lines))
        match chance.randrange(7):
            case 0 if len(lines) > 1:
                del lines[at]
            case 1:
                lines.insert(chance.randrange(len(lines)), lines[at])
            case 2:
                lines.insert(chance.randrange(len(lines)), lines.pop(at))
            case 3:
                lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]
            case 4 if at + 1 < len(lines):
                lines[at : at + 2] = [lines[at] + lines[at + 1]]
            case _:
                lines[at] = change_words(chance, lines[at])
    return "\n".join(lines)


def change_words(chance: random.Random, line: str) -> str:
    """Return ``line`` with one word replaced, dropped or doubled; a word ends at spaces, commas and punctuation."""
    words = re.split(r"([\s,;:=\"'\[\]{}()#|]+)", line)
    at = chance.randrange(len(words))
    value = chance.choice(VALUES)
    words[at] = chance.choice(("", words[at] * 2, value if isinstance(value, str) else json.dumps(value)))
    return "".join(words)


def lengthen(chance: random.Random, text: str) -> str:
    """Return ``text`` with a piece of 10,000 to 1,000,000 characters: one character, or words of the text, repeated.

    Such a line is how a pattern that tries every end for every beginning takes minutes.
    """
    at = chance.randrange(len(text) + 1)
    own = text[at : at + chance.choice((1, 2, 5, 20, 200))]
    unit = chance.choice((*_REPEATED, own, own)) or " "
    length = chance.choice((10_000, 100_000, 1_000_000))
    return text[:at] + unit * (length // len(unit)) + text[at:]


def lengthen_json(chance: random.Random, value: Any) -> Any:
    """Return a copy of parsed JSON with a text of up to a million characters, or with many items, somewhere in it."""
    value = [copy.deepcopy(value)]
    holder, key = chance.choice(list(_places(value)))
    if isinstance(holder[key], list) and holder[key]:
        most = 1_000_000 // len(dumped(holder[key]))
        holder[key] *= min(most, chance.choice((1000, 10_000)) // len(holder[key])) + 1
    elif isinstance(holder[key], dict):
        holder[key] |= {lengthen(chance, "key"): 1} | {f"key {number}": 1 for number in range(1000)}
    else:
        holder[key] = lengthen(chance, str(holder[key]))
    return value[0]


def change_bytes(chance: random.Random, content: bytes) -> bytes:
    """Return ``content`` with one to four bytes changed, a piece cut out, doubled or cut off."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 2, 4))):
        start = chance.randrange(len(changed) + 1)
        piece = changed[start : start + chance.choice((1, 2, 8, 64, 1024))]
        match chance.randrange(5):
            case 0:
                del changed[start : start + len(piece)]
            case 1:
                changed[start:start] = piece
            case 2:
                changed[start:start] = chance.randbytes(chance.choice((1, 2, 4)))
            case 3 if chance.random() < 0.2:
                del changed[start:]
            case _:
                if piece:
                    changed[start] ^= 1 << chance.randrange(8)
    return bytes(changed)


def dumped(value: Any) -> bytes:
    """Return ``value`` as JSON, which is not always valid: it can have infinite numbers and surrogates."""
    return json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each list or object in ``value`` with each of its keys. Long lists are represented by three items."""
    keys = list(value) if isinstance(value, dict) else sorted({0, len(value) // 2, len(value) - 1} if value else ())
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _replace(chance: random.Random, holder: Any, key: Any, _places: Any) -> None:
    holder[key] = copy.deepcopy(chance.choice(VALUES))


def _drop(_chance: random.Random, holder: Any, key: Any, _places: Any) -> None:
    del holder[key]


def _copy(chance: random.Random, holder: Any, key: Any, places: Any) -> None:
    """Put a value of another place here."""
    other, name = chance.choice(places)
    if name in other if isinstance(other, dict) else name < len(other):
        holder[key] = copy.deepcopy(other[name])


def _rename(chance: random.Random, holder: Any, key: Any, _places: Any) -> None:
    if isinstance(holder, dict):
        holder[chance.choice((*_TEXTS, key + "x"))] = holder.pop(key)
    else:
        holder.insert(key, holder[key])


def _wrap(chance: random.Random, holder: Any, key: Any, _places: Any) -> None:
    depth = chance.choice((1, 1, 2, 30, 31, 100))
    for _ in range(depth):
        holder[key] = [holder[key]] if chance.random() < 0.5 else {"a": holder[key]}


def _adjust(chance: random.Random, holder: Any, key: Any, _places: Any) -> None:
    value = holder[key]
    if isinstance(value, bool) or value is None:
        holder[key] = not value
    elif isinstance(value, int | float):
        holder[key] = chance.choice((-value, value + 1, value - 1, value * 2, value * 1e6, value / 1e6, value * 1e200))
    elif isinstance(value, str):
        at = chance.randrange(len(value) + 1)
        holder[key] = value[:at] + chance.choice(_TEXTS) + value[at + chance.choice((0, 1, 5)) :]
    elif isinstance(value, list):
        holder[key] = chance.choice((value * 2, value[:1], value[::-1], value[1:], value * 50))
    else:
        value[chance.choice(_TEXTS)] = copy.deepcopy(chance.choice(VALUES))


_JSON_CHANGES: tuple[Callable[[random.Random, Any, Any, Any], None], ...] = (
    *(_replace,) * 4,
    _drop,
    _copy,
    _rename,
    _wrap,
    *(_adjust,) * 3,
)
