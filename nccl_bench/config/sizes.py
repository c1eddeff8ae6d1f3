"""Message sizes and sweeps, written as nccl-tests writes them.

``8``, ``4K``, ``1M``, ``2G`` and ``1T`` are bytes, and a suffix is a power of 1024 (nccl-tests, ``parsesize`` in
src/common.cu). A sweep is ``BEGIN:END:xFACTOR`` or ``BEGIN:END:+STEP``, for example ``8:1G:x2``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction

from nccl_bench.errors import UsageError

_SUFFIXES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
# Python refuses to read an integer of more than 4300 digits.
_SIZE = re.compile(r"(\d{1,999}(?:\.\d{1,999})?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
# Up to here a float holds every whole number of bytes.
MOST_BYTES = 2**53
# Beyond this a sweep is a slip of the finger (a step of one byte, say), not a plan.
_MOST_SIZES = 10_000


def parse_size(text: str | int) -> int:
    """The number of bytes in ``text``; raises ``UsageError`` unless it is a whole, positive number of them."""
    if isinstance(text, int) and not isinstance(text, bool):
        text = str(text)
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise UsageError(f"{text!r} is not a message size: write bytes as 8, 4K, 1M or 2G (1K = 1024)")
    size = Fraction(match[1]) * _SUFFIXES[match[2].upper()]
    if size < 1 or size.denominator != 1:
        raise UsageError(f"{text!r} is not a message size: it has to be a whole number of bytes, at least 1")
    return int(size)


def format_size(size_bytes: int) -> str:
    """The shortest exact text that ``parse_size`` reads back, for example ``8``, ``4K``, ``1.5M``."""
    for suffix in ("T", "G", "M", "K"):
        unit = _SUFFIXES[suffix]
        if unit <= size_bytes <= MOST_BYTES:
            text = f"{size_bytes / unit:.10g}"
            if len(text) <= 5 and float(text) * unit == size_bytes:
                return text + suffix
    return str(size_bytes)


def sweep(begin: int, end: int, *, factor: int | None = None, step: int | None = None) -> tuple[int, ...]:
    """Sizes from ``begin`` to ``end``, both included where the stride meets them, times ``factor`` or plus ``step``."""
    if begin > end:
        raise UsageError(f"the sweep begins at {format_size(begin)} and ends before it, at {format_size(end)}")
    if factor is not None and factor < 2:
        raise UsageError(f"the step factor is {factor}: it has to be a whole number from 2")
    if step is not None and step < 1:
        raise UsageError(f"the step is {step} bytes: it has to be at least 1")
    sizes = []
    size = begin
    while size <= end:
        sizes.append(size)
        if len(sizes) > _MOST_SIZES:
            raise UsageError(f"the sweep has over {_MOST_SIZES} sizes: take a larger step")
        size = size + step if step is not None else size * (factor or 2)
    return tuple(sizes)


def parse_sweep(text: str) -> tuple[int, ...]:
    """The sizes of ``8:1G:x2``, ``1M:8M:+1M``, or of a list ``8,4K,1M``."""
    if ":" not in text:
        return unique(parse_size(part) for part in text.split(",") if part.strip())
    parts = text.split(":")
    stride = parts[2].strip() if len(parts) == 3 else ""
    if not re.fullmatch(r"x\d{1,999}|\+.+", stride):
        raise UsageError(f"{text!r} is not a sweep: write BEGIN:END:xFACTOR or BEGIN:END:+STEP, for example 8:1G:x2")
    begin, end = parse_size(parts[0]), parse_size(parts[1])
    if stride[0] == "x":
        return sweep(begin, end, factor=int(stride[1:]))
    return sweep(begin, end, step=parse_size(stride[1:]))


def unique(sizes: Iterable[int]) -> tuple[int, ...]:
    """The sizes in the order given, each once."""
    return tuple(dict.fromkeys(sizes))
