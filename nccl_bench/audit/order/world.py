"""The work that runs together: all eager work of a process, or the work of one capture."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from nccl_bench.audit.order.clocks import Clock, Clocks, Lane, joined
from nccl_bench.audit.order.graphs import Replay
from nccl_bench.audit.order.history import Entry, History, Moment, follows
from nccl_bench.audit.order.places import ByteRange
from nccl_bench.audit.order.races import Access, AccessMode

# The accesses of a piece of work, each with its ranges of bytes; the writes first.
Accesses = Sequence[tuple[AccessMode, Access | Replay, Sequence[ByteRange]]]


@dataclass(frozen=True, slots=True, eq=False)
class Conflict:
    """Two accesses to the same bytes that nothing orders."""

    old: Entry  # the access that the host asked for first
    new: Entry  # the access that the host asked for later
    overlap: ByteRange  # bytes of both
    only_host_speed: bool  # True if the accesses had an order in this run, but only by accident
    freed: Hashable = None  # the stack that freed the memory; None unless the later access is an allocation

    @property
    def old_access(self) -> Access:
        """Return the earlier access."""
        return self.old.access(self.overlap.address)

    @property
    def new_access(self) -> Access:
        """Return the later access."""
        return self.new.access(self.overlap.address)


class World:
    """The clocks and the history of work that runs together."""

    def __init__(self) -> None:
        self.clocks = Clocks()
        # The clocks that also count what threads and waits of this run ordered by accident. None without such an order.
        self._observed: Clocks | None = None
        self.history = History()

    def observe(self) -> Clocks:
        """Return the clocks that also count what was ordered by accident. From now on, keep these clocks too."""
        if self._observed is None:
            self._observed = self.clocks.with_one_host()
        return self._observed

    @property
    def all_clocks(self) -> Sequence[Clocks]:
        """Return the clocks that each action changes."""
        return (self.clocks,) if self._observed is None else (self.clocks, self._observed)

    @property
    def size(self) -> int:
        """Return the number of segments and of clocks."""
        return len(self.history) + sum(clocks.size for clocks in self.all_clocks)

    def launch(
        self,
        thread: Lane,
        lane: Lane,
        time: int,
        accesses: Accesses,
        mark: Hashable = None,
    ) -> list[Conflict]:
        """Add work with its accesses, the writes first, and return its conflicts."""
        before, *observed = [clocks.launch(thread, lane, time, mark) for clocks in self.all_clocks]
        moment = Moment(lane, time, {**before, lane: time})
        conflicts = []
        for mode, source, ranges in accesses:
            entry = Entry(source, mode is AccessMode.WRITE, moment)
            for memory in ranges:
                for old, overlap in self.history.add(memory, entry, before):
                    conflicts.append(Conflict(old, entry, overlap, any(follows(clock, old) for clock in observed)))
        return conflicts

    def hand_out(
        self,
        thread: Lane,
        lane: Lane,
        time: int,
        access: Access,
        uses: Iterable[tuple[Entry, ByteRange]],
        freed: Hashable,
    ) -> list[Conflict]:
        """Return the ``uses`` of ``freed`` memory that an allocation on ``lane`` does not follow."""
        before, *observed = [clocks.begin(thread, lane) for clocks in self.all_clocks]
        entry = Entry(access, True, Moment(lane, time, before))
        return [
            Conflict(old, entry, overlap, any(follows(clock, old) for clock in observed), freed)
            for old, overlap in uses
            if not follows(before, old)
        ]

    def without_repeats(self, lane: Lane, conflicts: Sequence[Conflict], mark: Hashable = None) -> list[Conflict]:
        """Return the fewest conflicts whose waits order all ``conflicts``.

        A wait for a stream also covers all earlier work on that stream, so the newest conflict is enough. The clocks go
        on as if these waits were there. Otherwise each later piece of work would report a missing wait again.
        """
        needed: list[Conflict] = []
        repaired: Clock = {}
        for conflict in sorted(conflicts, key=lambda conflict: -conflict.old.moment.time):
            if not follows(repaired, conflict.old):
                needed.append(conflict)
                repaired = joined(repaired, conflict.old.moment.clock)
        moment = conflicts[0].new.moment
        moment.clock = joined(moment.clock, repaired)
        for clocks in self.all_clocks:
            clocks.learn(lane, repaired, mark)
        return needed

    def end(self) -> None:
        """End a capture, and drop its history: blocks that it allocated still refer to this object."""
        self.history = History()

    def forget(self, common: Clock) -> None:
        """Forget what ``common`` covers, because all later work follows it."""
        self.history.forget(common)
        used = self.history.lanes()
        for clocks in self.all_clocks:
            clocks.forget(common, used)
