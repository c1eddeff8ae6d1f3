"""A map from bytes to values, kept as a sorted list of segments: neighbouring bytes with one value.

Packages for intervals (intervaltree, portion) keep overlapping intervals, or copy the whole map for a change. Here
segments never overlap, most changes replace one segment, and ``bisect`` finds it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from nccl_bench.audit.order.places import ByteRange

Value = TypeVar("Value")


class RangeMap(Generic[Value]):
    """Values of bytes. Bytes without a value take no memory."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._values: list[Value] = []

    def __len__(self) -> int:
        """Return the number of segments."""
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[ByteRange, Value]]:
        for start, end, value in zip(self._starts, self._ends, self._values, strict=True):
            yield ByteRange(address=start, length=end - start), value

    def overlapping(self, memory: ByteRange) -> list[tuple[ByteRange, Value]]:
        """Return the parts of ``memory`` that have a value, with it."""
        parts = []
        index = bisect_left(self._starts, memory.address)
        if index and self._ends[index - 1] > memory.address:
            index -= 1
        while index < len(self._starts) and self._starts[index] < memory.end:
            start, end = max(self._starts[index], memory.address), min(self._ends[index], memory.end)
            parts.append((ByteRange(address=start, length=end - start), self._values[index]))
            index += 1
        return parts

    def set(self, memory: ByteRange, value: Value) -> None:
        """Set all bytes of ``memory`` to ``value``."""
        self.update(memory, lambda start, end, old: value)

    def update(self, memory: ByteRange, change: Callable[[int, int, Value | None], Value | None]) -> None:
        """Set each part of ``memory`` to ``change(start, end, value)``; ``None`` stands for no value."""
        if memory.length <= 0:
            return
        first, last = self._split(memory.address), self._split(memory.end)
        segments: _Segments[Value] = _Segments()
        # The neighbours take part, because a changed value can be equal to theirs.
        before = first - 1 if first and self._ends[first - 1] == memory.address else first
        after = last + 1 if last < len(self._starts) and self._starts[last] == memory.end else last
        segments.extend(self._slice(before, first))
        position = memory.address
        for start, end, value in self._slice(first, last):
            if position < start:
                segments.append(position, start, change(position, start, None))
            segments.append(start, end, change(start, end, value))
            position = end
        if position < memory.end:
            segments.append(position, memory.end, change(position, memory.end, None))
        segments.extend(self._slice(last, after))
        self._starts[before:after], self._ends[before:after] = segments.starts, segments.ends
        self._values[before:after] = segments.values

    def update_all(self, change: Callable[[Value], Value | None]) -> None:
        """Set each value to ``change(value)``."""
        segments: _Segments[Value] = _Segments()
        segments.extend((start, end, change(value)) for start, end, value in self._slice(0, len(self)))
        self._starts, self._ends, self._values = segments.starts, segments.ends, segments.values

    def _slice(self, first: int, last: int) -> list[tuple[int, int, Value]]:
        return list(zip(self._starts[first:last], self._ends[first:last], self._values[first:last], strict=True))

    def _split(self, address: int) -> int:
        """Split the segment that ``address`` lies in, and return the index of the first segment that begins there."""
        index = bisect_left(self._starts, address)
        if index and self._ends[index - 1] > address:
            self._starts.insert(index, address)
            self._ends.insert(index, self._ends[index - 1])
            self._values.insert(index, self._values[index - 1])
            self._ends[index - 1] = address
        return index


class _Segments(Generic[Value]):
    """Segments in the order of their addresses. Neighbours with equal values become one segment."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.values: list[Value] = []

    def append(self, start: int, end: int, value: Value | None) -> None:
        if value is None:
            return
        if self.ends and self.ends[-1] == start and self.values[-1] == value:
            self.ends[-1] = end
        else:
            self.starts.append(start)
            self.ends.append(end)
            self.values.append(value)

    def extend(self, segments: Iterable[tuple[int, int, Value | None]]) -> None:
        for start, end, value in segments:
            self.append(start, end, value)
