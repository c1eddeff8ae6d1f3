"""The class that takes what sources report and returns the races."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

from nccl_bench.audit.order.actions import (
    Action,
    EventDestroyed,
    EventRecorded,
    HostAccessed,
    HostWaited,
    SignalReceived,
    SignalSent,
    StreamDestroyed,
    StreamWaited,
    ThreadEnded,
    WorkLaunched,
)
from nccl_bench.audit.order.clocks import Clocks, Lane
from nccl_bench.audit.order.history import Entry, History
from nccl_bench.audit.order.places import ByteRange, Stream, StreamKind
from nccl_bench.audit.order.races import Access, AccessMode, Missing, Race, RaceKind

_RaceKey = tuple[RaceKind, AccessMode, Hashable, str, AccessMode, Hashable, str]


class Order:
    """The actions of one process and their races. Each thread gives its actions to ``take`` when it asks for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clocks = Clocks()
        self._history = History()
        self._streams: dict[Stream, Lane] = {}
        self._threads: dict[int, Lane] = {}
        self._time = 0
        self._races: dict[_RaceKey, Race] = {}
        self._rules: dict[type, Callable[[Any], Sequence[Race]]] = {
            WorkLaunched: self._launch,
            HostAccessed: self._access,
            EventRecorded: self._record,
            StreamWaited: self._wait,
            HostWaited: self._wait_on_host,
            SignalSent: self._send,
            SignalReceived: self._receive,
            EventDestroyed: self._destroy_event,
            StreamDestroyed: self._destroy_stream,
            ThreadEnded: self._end_thread,
        }

    @property
    def races(self) -> tuple[Race, ...]:
        """Return each race once, with its count, in the order in which they were found."""
        with self._lock:
            return tuple(self._races.values())

    def take(self, action: Action) -> Sequence[Race]:
        """Take the next action, and return the races that it completes and that no earlier action completed."""
        with self._lock:
            rule = self._rules.get(type(action))
            return rule(action) if rule else ()

    def _launch(self, action: WorkLaunched) -> Sequence[Race]:
        thread = self._thread(action.thread)
        lane = self._lane(thread, action.stream)
        mark = None if action.communicator is None else ("communicator", action.communicator)
        access = Access(work=action.work, mode=AccessMode.READ, thread=action.thread, stream=action.stream)
        return self._add(thread, lane, access, action.reads, action.writes, mark)

    def _access(self, action: HostAccessed) -> Sequence[Race]:
        thread = self._thread(action.thread)
        access = Access(work=action.work, mode=AccessMode.READ, thread=action.thread, stream=None)
        return self._add(thread, thread, access, action.reads, action.writes, None)

    def _record(self, action: EventRecorded) -> Sequence[Race]:
        thread = self._thread(action.thread)
        self._clocks.mark(thread, self._lane(thread, action.stream), ("event", action.event))
        return ()

    def _wait(self, action: StreamWaited) -> Sequence[Race]:
        thread = self._thread(action.thread)
        self._clocks.wait(thread, self._lane(thread, action.stream), ("event", action.event))
        return ()

    def _wait_on_host(self, action: HostWaited) -> Sequence[Race]:
        thread = self._thread(action.thread)
        if action.is_accidental:
            return ()
        if action.event is not None:
            self._clocks.wait(thread, thread, ("event", action.event))
        if action.stream is not None:
            self._clocks.wait_for_lane(thread, self._lane(thread, action.stream))
        if action.device is not None:
            self._clocks.wait_for_device(thread, action.device)
        return ()

    def _send(self, action: SignalSent) -> Sequence[Race]:
        thread = self._thread(action.thread)
        self._clocks.mark(thread, thread, ("signal", action.signal))
        return ()

    def _receive(self, action: SignalReceived) -> Sequence[Race]:
        thread = self._thread(action.thread)
        self._clocks.wait(thread, thread, ("signal", action.signal))
        return ()

    def _destroy_event(self, action: EventDestroyed) -> Sequence[Race]:
        self._clocks.forget_mark(("event", action.event))
        return ()

    def _destroy_stream(self, action: StreamDestroyed) -> Sequence[Race]:
        self._streams.pop(action.stream, None)
        return ()

    def _end_thread(self, action: ThreadEnded) -> Sequence[Race]:
        self._threads.pop(action.thread, None)
        return ()

    def _thread(self, number: int) -> Lane:
        return self._threads.setdefault(number, Lane(None))

    def _lane(self, thread: Lane, stream: Stream) -> Lane:
        if stream.kind is StreamKind.INLINE:
            return thread
        return self._streams.setdefault(stream, Lane(stream))

    def _add(
        self,
        thread: Lane,
        lane: Lane,
        access: Access,
        reads: Sequence[ByteRange],
        writes: Sequence[ByteRange],
        mark: Hashable,
    ) -> Sequence[Race]:
        """Add a work and its accesses; return its new races."""
        self._time += 1
        clock = self._clocks.launch(thread, lane, self._time, mark)
        new_races: list[Race] = []
        raced: set[int] = set()
        for mode, ranges in ((AccessMode.WRITE, writes), (AccessMode.READ, reads)):
            entry = Entry(replace(access, mode=mode), mode is AccessMode.WRITE, lane, self._time)
            for memory in ranges:
                for old, overlap in self._history.add(memory, entry, clock):
                    # Python's own races between threads are not races of streams.
                    if old.time in raced or (old.lane.stream is None and lane.stream is None):
                        continue
                    raced.add(old.time)
                    new_races += self._report(old, entry, overlap)
        return new_races

    def _report(self, old: Entry, new: Entry, overlap: ByteRange) -> Sequence[Race]:
        first, second = old.access, new.access
        by_host = first.stream is None or second.stream is None
        kind = RaceKind.HOST_SPEED if by_host else RaceKind.KERNELS
        key = (kind, first.mode, first.work.where, first.work.name, second.mode, second.work.where, second.work.name)
        known = self._races.get(key)
        if known is not None:
            self._races[key] = replace(known, count=known.count + 1)
            return ()
        race = Race(kind=kind, missing=_missing(old, new), first=first, second=second, overlap=overlap)
        self._races[key] = race
        return (race,)


_MAIN_KINDS = (StreamKind.LEGACY_DEFAULT, StreamKind.INLINE)


def _missing(old: Entry, new: Entry) -> Missing:
    """Return the order that is missing before ``new``."""
    first, second = old.access, new.access
    if old.lane.stream is None:
        return Missing.SIGNAL
    if first.stream is None or second.stream is None:
        return Missing.HOST_WAIT
    sides = (
        (second.work.is_collective, first.work.is_collective),
        (first.stream.kind in _MAIN_KINDS, second.stream.kind in _MAIN_KINDS),
    )
    for to_side, to_main in sides:
        if to_side != to_main:
            return Missing.FORK if to_side else Missing.JOIN
    return Missing.WAIT
