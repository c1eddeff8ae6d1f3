"""A map from bytes to values, kept as a sorted list of segments: neighbouring bytes with one value.

Packages for intervals (intervaltree, portion) keep overlapping intervals, or copy the whole map for a change. Here
segments never overlap, most changes replace one segment, and ``bisect`` finds it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
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

    def at(self, address: int) -> Value | None:
        """Return the value of the byte at ``address``."""
        index = bisect_right(self._starts, address) - 1
        return self._values[index] if index >= 0 and self._ends[index] > address else None

    def overlapping(self, memory: ByteRange) -> list[tuple[ByteRange, Value]]:
        """Return the parts of ``memory`` that have a value, each with its value."""
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
        address, end = memory.address, memory.end
        if address >= end:
            return
        first = bisect_left(self._starts, address)
        # Most accesses use exactly the bytes of an earlier access.
        if first < len(self._starts) and self._starts[first] == address and self._ends[first] == end:
            self._set_segment(first, change(address, end, self._values[first]))
            return
        first, last = self._split(address), self._split(end)
        segments: _Segments[Value] = _Segments()
        # Replace the neighbouring segments too, because a changed value can be equal to the value of a neighbour.
        before = first - 1 if first and self._ends[first - 1] == address else first
        after = last + 1 if last < len(self._starts) and self._starts[last] == end else last
        segments.extend(self._slice(before, first))
        position = address
        for start, stop, value in self._slice(first, last):
            if position < start:
                segments.append(position, start, change(position, start, None))
            segments.append(start, stop, change(start, stop, value))
            position = stop
        if position < end:
            segments.append(position, end, change(position, end, None))
        segments.extend(self._slice(last, after))
        self._replace(before, after, segments)

    def _set_segment(self, index: int, value: Value | None) -> None:
        """Set the value of a whole segment, and join neighbours that became equal."""
        start, end = self._starts[index], self._ends[index]
        before = index and self._ends[index - 1] == start and self._values[index - 1] == value
        after = index + 1 < len(self) and self._starts[index + 1] == end and self._values[index + 1] == value
        if value is not None and not before and not after:
            self._values[index] = value
            return
        segments: _Segments[Value] = _Segments()
        first, last = (index - 1 if before else index), (index + 2 if after else index + 1)
        segments.extend(self._slice(first, index))
        segments.append(start, end, value)
        segments.extend(self._slice(index + 1, last))
        self._replace(first, last, segments)

    def _replace(self, first: int, last: int, segments: _Segments[Value]) -> None:
        self._starts[first:last], self._ends[first:last] = segments.starts, segments.ends
        self._values[first:last] = segments.values

    def update_all(self, change: Callable[[Value], Value | None]) -> None:
        """Set each value to ``change(value)``."""
        segments: _Segments[Value] = _Segments()
        segments.extend((start, end, change(value)) for start, end, value in self._slice(0, len(self)))
        self._replace(0, len(self), segments)

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
