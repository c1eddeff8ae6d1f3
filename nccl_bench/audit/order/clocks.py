"""Vector clocks: for each stream and each thread of the host, the work that has ended before its next step.

A lane is a stream or a thread. Each piece of work and each access of the host gets a time. Times grow along a lane. A
clock has one time for each lane: all work of the lane up to this time has ended. A lane knows the work that its clock
covers. A clock is never changed, so events and entries can share it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TypeVar

from nccl_bench.audit.order.places import Stream, StreamKind

Clock = Mapping["Lane", int]
Key = TypeVar("Key")
START: Clock = {}


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """A stream or a thread of the host, from its first action until it is destroyed or ends."""

    stream: Stream | None  # None for a thread of the host


def joined(clock: Clock, other: Clock) -> Clock:
    """Return the clock that covers both clocks."""
    if other is clock or not other:
        return clock
    newer = {lane: time for lane, time in other.items() if clock.get(lane, 0) < time}
    return {**clock, **newer} if newer else clock


def covers(clock: Clock, other: Clock) -> bool:
    """Return whether all work in ``other`` is also in ``clock``."""
    return other is clock or all(clock.get(lane, 0) >= time for lane, time in other.items())


class Clocks:
    """The clocks of all lanes. Launches, waits and signals change the clocks.

    With ``one_host`` all threads share one clock, so the order in which threads acted by accident counts too.
    """

    def __init__(self, *, one_host: bool = False) -> None:
        self._one_host = one_host
        self._lanes: dict[Lane, Clock] = {}
        self._marks: dict[Hashable, Clock] = {}  # the clocks of events, signals, communicators and graphs
        self._legacy: dict[int, Clock] = {}  # device -> the clock of the last action on its legacy default stream

    def with_one_host(self) -> Clocks:
        """Return a copy in which all threads share one clock."""
        copy = Clocks(one_host=True)
        copy._marks, copy._legacy = dict(self._marks), dict(self._legacy)
        for lane, clock in self._lanes.items():
            copy.learn(lane, clock)
        return copy

    @property
    def size(self) -> int:
        """Return the number of clocks and of the times in them."""
        clocks = [*self._lanes.values(), *self._marks.values(), *self._legacy.values()]
        return len(clocks) + sum(map(len, clocks))

    def knows(self, lane: Lane) -> Clock:
        """Return the clock of ``lane`` before its next step, without the waits that this step itself adds."""
        return self._lanes.get(self._shared(lane), START)

    def begin(self, thread: Lane, lane: Lane) -> Clock:
        """Return the clock that a new action of ``thread`` on ``lane`` waits for."""
        clock = joined(self.knows(lane), self.knows(thread))
        if lane.stream is None:
            return clock
        # CUDA's words: an action in the legacy stream waits for all blocking streams, and then these wait for it.
        if lane.stream.kind is StreamKind.BLOCKING:
            clock = joined(clock, self._legacy.get(lane.stream.device, START))
        elif lane.stream.kind is StreamKind.LEGACY_DEFAULT:
            for other in self._streams(lane.stream.device):
                if other.stream is not None and other.stream.kind is StreamKind.BLOCKING:
                    clock = joined(clock, self._lanes[other])
        return clock

    def launch(self, thread: Lane, lane: Lane, time: int, after: Hashable = None) -> Clock:
        """Queue work at a new ``time``, and return the clock that it waits for; this includes the mark ``after``."""
        before = self.begin(thread, lane)
        if after is not None:
            before = joined(before, self._marks.get(after, START))
        clock = {**before, lane: time}
        self._end(lane, clock)
        if after is not None:
            self._marks[after] = clock
        return before

    def mark(self, thread: Lane, lane: Lane, mark: Hashable) -> None:
        """Keep the present clock of ``lane`` under the name ``mark``."""
        clock = self.begin(thread, lane)
        self._end(lane, clock)
        self._marks[mark] = clock

    def wait(self, thread: Lane, lane: Lane, mark: Hashable) -> None:
        """Make later steps of ``lane`` wait for ``mark``."""
        self._end(lane, joined(self.begin(thread, lane), self._marks.get(mark, START)))

    def wait_for_device(self, thread: Lane, device: int) -> None:
        """Make ``thread`` wait for the work that is on all streams of ``device`` now."""
        for lane in self._streams(device):
            self.learn(thread, self._lanes[lane])

    def learn(self, lane: Lane, clock: Clock, mark: Hashable = None) -> None:
        """Make later steps of ``lane`` wait for ``clock``. Also add ``clock`` to ``mark``, the lane's newest mark."""
        self._end(lane, joined(self.knows(lane), clock))
        if mark is not None:
            self._marks[mark] = joined(self._marks[mark], clock)

    def unmark(self, mark: Hashable) -> None:
        """Forget a mark."""
        self._marks.pop(mark, None)

    def common(self, threads: Iterable[Lane]) -> Clock:
        """Return what all ``threads`` know, so that all later work follows it."""
        clocks = sorted((self.knows(thread) for thread in threads), key=len)
        if not clocks:
            return START
        times = {lane: min(clock.get(lane, 0) for clock in clocks) for lane in clocks[0]}
        return {lane: time for lane, time in times.items() if time}

    def forget(self, common: Clock, used: Set[Lane]) -> None:
        """Forget what ``common`` covers: marks, streams, and lanes not in ``used``, the lanes with accesses."""
        self._marks = {mark: clock for mark, clock in self._marks.items() if not covers(common, clock)}
        self._legacy = {device: clock for device, clock in self._legacy.items() if not covers(common, clock)}
        # A stream without a clock begins with what the thread knows, which is at least `common`.
        self._lanes = {
            lane: clock for lane, clock in self._lanes.items() if lane.stream is None or not covers(common, clock)
        }
        kept = used | self._lanes.keys()
        self._lanes = _restricted(self._lanes, kept)
        self._marks = _restricted(self._marks, kept)
        self._legacy = _restricted(self._legacy, kept)

    def forget_thread(self, thread: Lane) -> None:
        """Forget a thread that has ended."""
        self._lanes.pop(thread, None)

    def _end(self, lane: Lane, clock: Clock) -> None:
        self._lanes[self._shared(lane)] = clock
        if lane.stream is not None and lane.stream.kind is StreamKind.LEGACY_DEFAULT:
            self._legacy[lane.stream.device] = clock

    def _streams(self, device: int) -> list[Lane]:
        return [lane for lane in self._lanes if lane.stream is not None and lane.stream.device == device]

    def _shared(self, lane: Lane) -> Lane:
        return _HOST if self._one_host and lane.stream is None else lane


def _restricted(clocks: dict[Key, Clock], lanes: Set[Lane]) -> dict[Key, Clock]:
    """Return ``clocks`` with only the times of ``lanes``."""
    return {
        key: clock if clock.keys() <= lanes else {lane: time for lane, time in clock.items() if lane in lanes}
        for key, clock in clocks.items()
    }


_HOST = Lane(None)  # the lane of all threads in clocks with `one_host`
