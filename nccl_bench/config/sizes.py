"""Message sizes and sweeps, written as nccl-tests writes them. No torch.

``8``, ``4K``, ``1M``, ``2G`` and ``1T`` are bytes, and a suffix is a power of 1024 (nccl-tests, ``parsesize`` in
src/common.cu). A sweep is ``BEGIN:END:xFACTOR`` or ``BEGIN:END:+STEP``, for example ``8:1G:x2``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.errors import UsageError

_Item = TypeVar("_Item")
_SUFFIXES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
# At most 999 digits: Python refuses to read an integer of more than 4300 digits.
_SIZE_FORM = re.compile(r"(\d{1,999}(?:\.\d{1,999})?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
# Up to this number a float holds every whole number of bytes.
MOST_BYTES = 2**53
# A sweep with more sizes than this is surely a mistake, for example a step of one byte.
_MOST_SIZES = 10_000
_FORM = "a sweep such as '8:1G:x2' or a list such as ['4K', '1M']"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Sizes from ``begin`` to ``end``. Each size is the previous size times ``factor``, or plus ``step``."""

    begin: int  # the smallest size in bytes
    end: int  # the upper limit of the sizes, in bytes
    factor: int | None = None  # the quotient of two neighbouring sizes; None if the sweep has a step
    step: int | None = None  # the difference of two neighbouring sizes, in bytes; None if the sweep has a factor

    @classmethod
    def parse(cls, text: str) -> Sweep:
        """Return the sweep that ``text`` describes; raise ``UsageError`` if it describes no sweep."""
        parts = text.split(":")
        stride = parts[2].strip() if len(parts) == 3 else ""
        if not re.fullmatch(r"x\d{1,999}|\+.+", stride):
            raise UsageError(
                f"{text!r} is not a sweep: {_meant_sweep(parts)}write BEGIN:END:xFACTOR or BEGIN:END:+STEP, for "
                "example 8:1G:x2"
            )
        begin, end = parse_size(parts[0]), parse_size(parts[1])
        if stride[0] == "x":
            return cls(begin=begin, end=end, factor=int(stride[1:]))
        return cls(begin=begin, end=end, step=parse_size(stride[1:]))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes in bytes, the smallest first. Raises ``UsageError`` if there are no sizes or too many."""
        if self.begin > self.end:
            begin, end = format_size(self.begin), format_size(self.end)
            stride = f"x{self.factor}" if self.step is None else f"+{format_size(self.step)}"
            raise UsageError(
                f"the sweep begins at {begin}, which is above its end, {end}: did you mean {end}:{begin}:{stride}?"
            )
        if self.factor is not None and self.factor < 2:
            raise UsageError(f"the factor of the sweep is {self.factor}: give a whole number, 2 or more")
        sizes = []
        size = self.begin
        while size <= self.end:
            sizes.append(size)
            if len(sizes) > _MOST_SIZES:
                raise UsageError(f"the sweep has over {_MOST_SIZES} sizes: give a larger step")
            size = size + self.step if self.step is not None else size * (self.factor or 2)
        return tuple(sizes)


def parse_size(text: str | int) -> int:
    """Return the number of bytes that ``text`` means; raise ``UsageError`` if that number is not 1, 2, 3, ..."""
    if isinstance(text, int) and not isinstance(text, bool):
        text = str(text)
    match = _SIZE_FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise UsageError(
            f"{text!r} is not a message size: {_meant_size(text)}write bytes, such as 8, 4K, 1M or 2G (1K = 1024)"
        )
    size = Fraction(match[1]) * _SUFFIXES[match[2].upper()]
    if size < 1 or size.denominator != 1:
        raise UsageError(f"{text!r} is not a message size: give a whole number of bytes, at least 1")
    return int(size)


def _meant_size(text: object) -> str:
    """Return a suggestion for a number with an unknown suffix; empty if the text is something else."""
    match = re.fullmatch(r"(\d{1,9})\s*[a-z]{1,3}", text.strip(), re.IGNORECASE) if isinstance(text, str) else None
    return f"did you mean {match[1]}, {match[1]}K or {match[1]}M? Else " if match else ""


def _meant_sweep(parts: Sequence[str]) -> str:
    """Return a suggestion for a sweep whose last part is missing or has no sign; empty if more is wrong."""
    if len(parts) not in (2, 3):
        return ""
    begin, end, factor = [part.strip() for part in (*parts, "2")[:3]]
    if not factor.isdecimal() or not all(map(_SIZE_FORM.fullmatch, (begin, end))):
        return ""
    return f"did you mean {begin}:{end}:x{factor}? Else "


def format_size(size_bytes: int) -> str:
    """Return the shortest text that ``parse_size`` reads as ``size_bytes``, for example ``8``, ``4K``, ``1.5M``."""
    for suffix in ("T", "G", "M", "K"):
        unit = _SUFFIXES[suffix]
        if unit <= size_bytes <= MOST_BYTES:
            text = f"{size_bytes / unit:.10g}"
            if len(text) <= 5 and float(text) * unit == size_bytes:
                return text + suffix
    return str(size_bytes)


def parse_sizes(name: str, value: object, _device: DeviceSpec | None = None) -> tuple[int, ...]:
    """Return the sizes of a range (text with colons), a comma-separated text or a list, without duplicates."""
    if not isinstance(value, str | list | tuple):
        raise UsageError(f"{name} is {value!r}: give {_FORM}")
    try:
        if isinstance(value, str) and ":" in value:
            sizes = Sweep.parse(value).sizes
        elif isinstance(value, str):
            sizes = unique(parse_size(part) for part in value.split(",") if part.strip())
        else:
            sizes = unique(map(parse_size, value))
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
    if not sizes:
        raise UsageError(f"{name} is empty: give {_FORM}")
    if max(sizes) > MOST_BYTES:
        raise UsageError(f"{name} has {max(sizes)}: give sizes of at most {format_size(MOST_BYTES)}")
    return sizes


def unique(entries: Iterable[_Item]) -> tuple[_Item, ...]:
    """Return ``entries`` in their order, each once."""
    return tuple(dict.fromkeys(entries))
