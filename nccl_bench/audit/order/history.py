"""The accesses that a later access can still race with, for each byte."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from nccl_bench.audit.order.clocks import Clock, Lane
from nccl_bench.audit.order.places import ByteRange
from nccl_bench.audit.order.races import Access


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An access in the history."""

    access: Access  # the access, for reports
    writes: bool  # whether the access writes
    lane: Lane  # where the access runs
    time: int  # its time on the lane, which all accesses of one work share


Conflict = tuple[Entry, ByteRange]


class History:
    """A sorted list of segments: neighbouring bytes whose entries are the same.

    An entry leaves a segment as soon as a later access follows it and conflicts with everything that it conflicts with.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._entries: list[tuple[Entry, ...]] = []

    def add(self, memory: ByteRange, new: Entry, clock: Clock) -> list[Conflict]:
        """Add an access that knows ``clock``, and return the entries that it conflicts with and does not follow.

        Add what a work writes before what it reads.
        """
        conflicts: list[Conflict] = []
        if memory.length <= 0:
            return conflicts
        first, last = self._split(memory.address), self._split(memory.end)
        starts: list[int] = []
        ends: list[int] = []
        entries: list[tuple[Entry, ...]] = []

        def append(start: int, end: int, segment: tuple[Entry, ...]) -> None:
            if ends and ends[-1] == start and entries[-1] == segment:
                ends[-1] = end
            else:
                starts.append(start)
                ends.append(end)
                entries.append(segment)

        position = memory.address
        for index in range(first, last):
            start, end = self._starts[index], self._ends[index]
            if position < start:
                append(position, start, (new,))
            append(start, end, self._meet(index, new, clock, conflicts))
            position = end
        if position < memory.end:
            append(position, memory.end, (new,))
        self._starts[first:last], self._ends[first:last], self._entries[first:last] = starts, ends, entries
        return conflicts

    def _meet(self, index: int, new: Entry, clock: Clock, conflicts: list[Conflict]) -> tuple[Entry, ...]:
        """Return the entries of a segment after ``new``."""
        kept = []
        for old in self._entries[index]:
            if old.lane is new.lane and old.time == new.time:
                return self._entries[index]  # what the work writes also stands for what it reads
            follows = clock.get(old.lane, 0) >= old.time
            if not follows and (old.writes or new.writes):
                start = self._starts[index]
                conflicts.append((old, ByteRange(address=start, length=self._ends[index] - start)))
            if not follows or (old.writes and not new.writes):
                kept.append(old)
        return (*kept, new)

    def _split(self, address: int) -> int:
        """Return the index of the first segment that begins at or after ``address``; no segment contains both sides."""
        index = bisect_left(self._starts, address)
        if index and self._ends[index - 1] > address:
            self._starts.insert(index, address)
            self._ends.insert(index, self._ends[index - 1])
            self._entries.insert(index, self._entries[index - 1])
            self._ends[index - 1] = address
        return index
