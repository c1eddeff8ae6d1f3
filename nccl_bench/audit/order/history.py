"""Keeps for each byte the accesses that a later access can still race with."""

from __future__ import annotations

from dataclasses import dataclass

from nccl_bench.audit.order.clocks import Clock, Lane
from nccl_bench.audit.order.graphs import Graph, Replay
from nccl_bench.audit.order.places import ByteRange
from nccl_bench.audit.order.races import Access
from nccl_bench.audit.order.range_map import RangeMap


@dataclass(slots=True, eq=False)
class Moment:
    """A piece of work in the order of all work."""

    lane: Lane  # where the work runs
    time: int  # its time on the lane
    clock: Clock  # the lane's clock after the work; it grows if the order assumes a missing wait before the work


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An access in the history."""

    source: Access | Replay  # the access, or the replay that stands for the accesses of its graph
    writes: bool  # whether the access writes
    moment: Moment  # the work that makes the access

    def access(self, address: int) -> Access:
        """Return the access to the byte at ``address``."""
        return self.source.access(address) if isinstance(self.source, Replay) else self.source


def follows(clock: Clock, entry: Entry) -> bool:
    """Return whether work that knows ``clock`` begins after ``entry`` has ended."""
    return clock.get(entry.moment.lane, 0) >= entry.moment.time


class History:
    """The accesses that matter for each byte. A new access replaces the earlier accesses that it follows.

    A read replaces only reads, because a later read can conflict with an earlier write. An access of the host replaces
    only accesses of the host. A later access of another thread can still race with the work of a stream. Races between
    two threads of the host are not looked for.
    """

    def __init__(self) -> None:
        self._entries: RangeMap[tuple[Entry, ...]] = RangeMap()

    def __len__(self) -> int:
        """Return the number of segments: neighbouring bytes with the same accesses."""
        return len(self._entries)

    def add(self, memory: ByteRange, new: Entry, clock: Clock) -> list[tuple[Entry, ByteRange]]:
        """Add an access that begins with ``clock``, and return the accesses that it races with.

        Add the writes of a work before its reads.
        """
        conflicts: list[tuple[Entry, ByteRange]] = []
        by_host = new.moment.lane.stream is None

        def meet(start: int, end: int, segment: tuple[Entry, ...] | None) -> tuple[Entry, ...]:
            kept = []
            for old in segment or ():
                if old.moment is new.moment:
                    return segment or ()  # the work writes these bytes too
                ordered = follows(clock, old)
                if not ordered and (old.writes or new.writes):
                    conflicts.append((old, ByteRange(address=start, length=end - start)))
                if not ordered or (old.writes and not new.writes) or (by_host and old.moment.lane.stream):
                    kept.append(old)
            kept.append(new)
            return tuple(kept)

        self._entries.update(memory, meet)
        return conflicts

    def entries(self, memory: ByteRange) -> list[tuple[Entry, ByteRange]]:
        """Return the accesses to ``memory``, each with bytes that it uses."""
        return [(entry, part) for part, entries in self._entries.overlapping(memory) for entry in entries]

    def forget(self, clock: Clock, memory: ByteRange | None = None) -> None:
        """Forget the accesses that ``clock`` follows, in all memory or in ``memory``."""

        def rest(entries: tuple[Entry, ...]) -> tuple[Entry, ...] | None:
            kept = tuple(entry for entry in entries if not follows(clock, entry))
            return entries if len(kept) == len(entries) else kept or None

        if memory is None:
            self._entries.update_all(rest)
        else:
            self._entries.update(memory, lambda start, end, entries: rest(entries) if entries else None)

    def lanes(self) -> set[Lane]:
        """Return the lanes of all accesses."""
        return {entry.moment.lane for _, entries in self._entries for entry in entries}

    def graph(self) -> Graph:
        """Return the graph with these accesses."""
        return Graph.of(
            (memory, [entry.access(memory.address) for entry in entries]) for memory, entries in self._entries
        )
