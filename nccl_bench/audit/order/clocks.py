"""Vector clocks: what each stream and each thread of the host knows to have ended before its next step.

A lane is a stream or a thread. Each work and each access of the host gets a time, which grows on its lane. A clock has
for each lane the time up to which everything has ended. A clock is never changed, so events and entries can share it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from nccl_bench.audit.order.places import Stream, StreamKind

Clock = Mapping["Lane", int]
START: Clock = {}


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """A stream or a thread of the host, from its first action until it is destroyed or ends."""

    stream: Stream | None  # None for a thread of the host


def joined(clock: Clock, other: Clock) -> Clock:
    """Return the clock that knows what both clocks know."""
    if other is clock or not other:
        return clock
    newer = {lane: time for lane, time in other.items() if clock.get(lane, 0) < time}
    return {**clock, **newer} if newer else clock


class Clocks:
    """The clocks of all lanes, changed by what orders them.

    With ``one_host`` all threads share what they know, so the order in which threads happened to act counts.
    """

    def __init__(self, *, one_host: bool = False) -> None:
        self._one_host = one_host
        self._lanes: dict[Lane, Clock] = {}
        self._marks: dict[Hashable, Clock] = {}  # the clocks of events, signals, communicators and graphs
        self._legacy: dict[int, Clock] = {}  # device -> what the last action on its legacy default stream knew

    def knows(self, thread: Lane) -> Clock:
        """Return what a thread knows to have ended."""
        return self._lanes.get(self._host(thread), START)

    def begin(self, thread: Lane, lane: Lane) -> Clock:
        """Return what a new action of ``thread`` on ``lane`` waits for."""
        if lane.stream is None:
            return self.knows(lane)
        clock = joined(self._lanes.get(lane, START), self.knows(thread))
        if lane.stream.kind is StreamKind.BLOCKING:
            clock = joined(clock, self._legacy.get(lane.stream.device, START))
        elif lane.stream.kind is StreamKind.LEGACY_DEFAULT:
            for other in self._streams(lane.stream.device):
                if other.stream is not None and other.stream.kind is StreamKind.BLOCKING:
                    clock = joined(clock, self._lanes[other])
        return clock

    def end(self, lane: Lane, clock: Clock) -> None:
        """Set what ``lane`` knows after an action."""
        self._lanes[self._host(lane) if lane.stream is None else lane] = clock
        if lane.stream is not None and lane.stream.kind is StreamKind.LEGACY_DEFAULT:
            self._legacy[lane.stream.device] = clock

    def launch(self, thread: Lane, lane: Lane, time: int, after: Hashable = None) -> Clock:
        """Queue the work with a new ``time``, and return what it waits for; ``after`` is a mark that it also joins."""
        before = self.begin(thread, lane)
        if after is not None:
            before = joined(before, self._marks.get(after, START))
        clock = {**before, lane: time}
        self.end(lane, clock)
        if after is not None:
            self._marks[after] = clock
        return before

    def mark(self, thread: Lane, lane: Lane, mark: Hashable) -> None:
        """Keep what ``lane`` knows now under ``mark``."""
        clock = self.begin(thread, lane)
        self.end(lane, clock)
        self._marks[mark] = clock

    def wait(self, thread: Lane, lane: Lane, mark: Hashable) -> None:
        """Make later steps of ``lane`` wait for ``mark``."""
        self.end(lane, joined(self.begin(thread, lane), self._marks.get(mark, START)))

    def wait_for_lane(self, thread: Lane, lane: Lane) -> None:
        """Make ``thread`` wait for the work that is on ``lane`` now."""
        self.end(thread, joined(self.knows(thread), self._lanes.get(lane, START)))

    def wait_for_device(self, thread: Lane, device: int) -> None:
        """Make ``thread`` wait for the work that is on all streams of ``device`` now."""
        for lane in self._streams(device):
            self.wait_for_lane(thread, lane)

    def forget_mark(self, mark: Hashable) -> None:
        """Forget an event, a signal or a graph."""
        self._marks.pop(mark, None)

    def _streams(self, device: int) -> list[Lane]:
        return [lane for lane in self._lanes if lane.stream is not None and lane.stream.device == device]

    def _host(self, thread: Lane) -> Lane:
        return _HOST if self._one_host else thread


_HOST = Lane(None)  # the lane of all threads in clocks with `one_host`
