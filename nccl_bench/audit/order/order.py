"""The class that takes the actions that sources report, and returns the races."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from nccl_bench.audit.order.actions import (
    Action,
    CaptureBegun,
    CaptureEnded,
    EventDestroyed,
    EventRecorded,
    GraphDestroyed,
    GraphReplayed,
    HostAccessed,
    HostWaited,
    MemoryAllocated,
    MemoryFreed,
    SignalReceived,
    SignalSent,
    StreamDestroyed,
    StreamOfMemoryRecorded,
    StreamWaited,
    ThreadEnded,
    WorkLaunched,
)
from nccl_bench.audit.order.blocks import Block, Blocks
from nccl_bench.audit.order.clocks import Lane
from nccl_bench.audit.order.graphs import Graph, Replay
from nccl_bench.audit.order.places import Stream, StreamKind
from nccl_bench.audit.order.races import Access, AccessMode, Race
from nccl_bench.audit.order.reports import Reports
from nccl_bench.audit.order.world import Accesses, Conflict, World

# The order forgets old accesses at most once in this number of actions: forgetting looks at every segment of the
# history.
FORGET_EVERY = 4096


class Order:
    """The actions of one process and their races. Each thread gives an action to ``take`` at the time of the action.

    After a race, the order goes on as if the missing wait were there. With ``every_pair`` it does not: it reports every
    pair of accesses that race, even if one wait would order many pairs.

    Ranges can have gaps. ``confirms`` says whether two accesses with overlapping ranges really have bytes in common.
    """

    def __init__(self, *, every_pair: bool = False, confirms: Callable[[Access, Access], bool] | None = None) -> None:
        self._every_pair = every_pair
        self._confirms = confirms
        self._lock = threading.Lock()
        self._eager = World()
        self._captures: dict[Lane, World] = {}  # each stream that is in a capture, with this capture
        self._captured_events: dict[int, World] = {}  # each event that a capture recorded last, with this capture
        self._graphs: dict[int, Graph] = {}
        self._blocks = Blocks()
        self._streams: dict[Stream, Lane] = {}
        self._threads: dict[int, Lane] = {}
        self._time = 0  # the time of the newest work
        self._until_forgetting = FORGET_EVERY
        self._reports = Reports(self._blocks)
        self._rules: dict[type, Callable[[Any], Sequence[Conflict]]] = {
            WorkLaunched: self._launch,
            HostAccessed: self._access,
            EventRecorded: self._record,
            StreamWaited: self._wait,
            HostWaited: self._wait_on_host,
            MemoryAllocated: self._allocate,
            StreamOfMemoryRecorded: self._record_stream,
            MemoryFreed: self._free,
            CaptureBegun: self._begin_capture,
            CaptureEnded: self._end_capture,
            GraphReplayed: self._replay,
            SignalSent: self._send,
            SignalReceived: self._receive,
            EventDestroyed: self._destroy_event,
            StreamDestroyed: self._destroy_stream,
            GraphDestroyed: self._destroy_graph,
            ThreadEnded: self._end_thread,
        }

    @property
    def races(self) -> tuple[Race, ...]:
        """Return each race once, with its count. The race that was found first comes first."""
        with self._lock:
            return self._reports.races

    @property
    def size(self) -> int:
        """Return how much the order remembers: segments of accesses, blocks of memory, clocks and the times in them."""
        with self._lock:
            return self._eager.size + len(self._blocks)

    def take(self, action: Action) -> tuple[Race, ...]:
        """Take the next action, and return its races that are not known yet."""
        with self._lock:
            conflicts = self._rules[type(action)](action)
            self._until_forgetting -= 1
            if self._until_forgetting <= 0:
                self._forget()
            return self._reports.add(conflicts) if conflicts else ()

    def forget(self) -> None:
        """Forget everything that all later work follows. ``take`` does it from time to time."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        common = self._eager.clocks.common(self._threads.values())
        self._blocks.forget(common)
        self._eager.forget(common)
        self._until_forgetting = max(FORGET_EVERY, len(self._eager.history))

    # Work

    def _launch(self, action: WorkLaunched) -> Sequence[Conflict]:
        thread, lane, world = self._place(action.thread, action.stream)
        mark = None if action.communicator is None else ("communicator", action.communicator)
        return self._add(world, thread, lane, _accesses(action, action.stream), mark)

    def _access(self, action: HostAccessed) -> Sequence[Conflict]:
        thread = self._thread(action.thread)
        return self._add(self._eager, thread, thread, _accesses(action, None))

    def _replay(self, action: GraphReplayed) -> Sequence[Conflict]:
        thread, lane, world = self._place(action.thread, action.stream)
        graph = self._graphs.get(action.graph)
        if graph is None:
            return ()
        replay = Replay(graph=graph, thread=action.thread, stream=action.stream, where=action.where)
        accesses = [(AccessMode.WRITE, replay, graph.writes), (AccessMode.READ, replay, graph.reads)]
        return self._add(world, thread, lane, accesses, ("graph", action.graph))

    def _add(
        self, world: World, thread: Lane, lane: Lane, accesses: Accesses, mark: Hashable = None
    ) -> Sequence[Conflict]:
        self._time += 1
        return self._judge(world, lane, world.launch(thread, lane, self._time, accesses, mark), mark)

    def _judge(
        self, world: World, lane: Lane, conflicts: Sequence[Conflict], mark: Hashable = None
    ) -> Sequence[Conflict]:
        # Python's own races between threads are not races of streams.
        races = [each for each in conflicts if each.old.moment.lane.stream or each.new.moment.lane.stream]
        if races and self._confirms is not None:
            races = [each for each in races if self._confirms(each.old_access, each.new_access)]
        return races if self._every_pair or not races else world.without_repeats(lane, races, mark)

    # Waiting

    def _record(self, action: EventRecorded) -> Sequence[Conflict]:
        thread, lane, world = self._place(action.thread, action.stream)
        for clocks in world.all_clocks:
            clocks.mark(thread, lane, ("event", action.event))
        if world is self._eager:
            self._captured_events.pop(action.event, None)
        else:
            self._captured_events[action.event] = world
        return ()

    def _wait(self, action: StreamWaited) -> Sequence[Conflict]:
        thread, lane, world = self._place(action.thread, action.stream)
        recorded = self._captured_events.get(action.event, self._eager)
        if world is self._eager and recorded in self._captures.values():
            # A stream that waits for an event of a capture joins the capture.
            world = self._captures[lane] = recorded
        if world is recorded:
            for clocks in world.all_clocks:
                clocks.wait(thread, lane, ("event", action.event))
        return ()

    def _wait_on_host(self, action: HostWaited) -> Sequence[Conflict]:
        thread = self._thread(action.thread)
        observed = self._eager.observe() if action.is_accidental else None
        for clocks in (observed,) if observed else self._eager.all_clocks:
            if action.event is not None and action.event not in self._captured_events:
                clocks.wait(thread, thread, ("event", action.event))
            if action.stream is not None:
                clocks.learn(thread, clocks.knows(self._lane(thread, action.stream)))
            if action.device is not None:
                clocks.wait_for_device(thread, action.device)
        return ()

    def _send(self, action: SignalSent) -> Sequence[Conflict]:
        thread = self._thread(action.thread)
        for clocks in self._eager.all_clocks:
            clocks.mark(thread, thread, ("signal", action.signal))
        return ()

    def _receive(self, action: SignalReceived) -> Sequence[Conflict]:
        thread = self._thread(action.thread)
        for clocks in self._eager.all_clocks:
            clocks.wait(thread, thread, ("signal", action.signal))
        return ()

    # Memory

    def _allocate(self, action: MemoryAllocated) -> Sequence[Conflict]:
        thread, lane, world = self._place(action.thread, action.stream)
        served = self._blocks.allocate(Block(action.memory, action.stream, world, self._time))
        if not served:
            return ()
        access = Access(work=action.work, mode=AccessMode.HAND_OUT, thread=action.thread, stream=action.stream)
        conflicts: list[Conflict] = []
        for pending in served:
            conflicts += world.hand_out(thread, lane, self._time, access, pending.uses, pending.block.freed)
        return self._judge(world, lane, conflicts)

    def _record_stream(self, action: StreamOfMemoryRecorded) -> Sequence[Conflict]:
        block = self._blocks.at(action.address)
        # The allocator ignores the block's own stream: it hands the block out without waiting for this stream's work.
        if block is not None and action.stream != block.stream and action.stream.kind is not StreamKind.INLINE:
            block.streams.add(self._streams.setdefault(action.stream, Lane(action.stream)))
        return ()

    def _free(self, action: MemoryFreed) -> Sequence[Conflict]:
        thread = self._thread(action.thread)
        block = self._blocks.at(action.address)
        if block is None or block.is_freed:
            return ()
        block.is_freed, block.freed = True, action.where
        world = block.world
        own = self._lane(thread, block.stream)
        # Most blocks are used only by their own stream. This stream also orders the next use of the memory.
        if not block.streams and all(entry.moment.lane is own for entry, _ in world.history.entries(block.memory)):
            return ()
        # The block cannot be handed out before the thread frees it, and before these streams have done their work.
        for lane in (thread, *block.streams):
            world.history.forget(world.clocks.begin(thread, lane), block.memory)
        self._blocks.keep_pending(block, world.clocks.knows(own))
        return ()

    # Captures

    def _begin_capture(self, action: CaptureBegun) -> Sequence[Conflict]:
        self._captures[self._place(action.thread, action.stream)[1]] = World()
        return ()

    def _end_capture(self, action: CaptureEnded) -> Sequence[Conflict]:
        world = self._place(action.thread, action.stream)[2]
        if world is not self._eager:
            self._graphs[action.graph] = world.history.graph()
            self._captures = {lane: other for lane, other in self._captures.items() if other is not world}
            world.end()
            self._blocks.end(world)
        return ()

    # Ends

    def _destroy_event(self, action: EventDestroyed) -> Sequence[Conflict]:
        self._captured_events.pop(action.event, None)
        for clocks in self._eager.all_clocks:
            clocks.unmark(("event", action.event))
        return ()

    def _destroy_stream(self, action: StreamDestroyed) -> Sequence[Conflict]:
        self._streams.pop(action.stream, None)
        return ()

    def _destroy_graph(self, action: GraphDestroyed) -> Sequence[Conflict]:
        self._graphs.pop(action.graph, None)
        for clocks in self._eager.all_clocks:
            clocks.unmark(("graph", action.graph))
        return ()

    def _end_thread(self, action: ThreadEnded) -> Sequence[Conflict]:
        thread = self._threads.pop(action.thread, None)
        if thread is not None:
            for clocks in self._eager.all_clocks:
                clocks.forget_thread(thread)
        return ()

    # Lanes

    def _thread(self, number: int) -> Lane:
        thread = self._threads.get(number)
        if thread is None:
            # A thread without a signal was started by an unknown thread. So it knows only what all other threads know.
            common = self._eager.clocks.common(self._threads.values())
            thread = self._threads[number] = Lane(None)
            self._eager.clocks.learn(thread, common)
            if len(self._threads) > 1:
                self._eager.observe()
        return thread

    def _lane(self, thread: Lane, stream: Stream) -> Lane:
        if stream.kind is StreamKind.INLINE:
            return thread
        lane = self._streams.get(stream)
        if lane is None:
            lane = self._streams[stream] = Lane(stream)
        return lane

    def _place(self, number: int, stream: Stream) -> tuple[Lane, Lane, World]:
        thread = self._thread(number)
        lane = self._lane(thread, stream)
        return thread, lane, self._captures.get(lane, self._eager)


def _accesses(action: WorkLaunched | HostAccessed, stream: Stream | None) -> Accesses:
    """Return the accesses of an action, the writes first."""
    return [
        (mode, Access(work=action.work, mode=mode, thread=action.thread, stream=stream), ranges)
        for mode, ranges in ((AccessMode.WRITE, action.writes), (AccessMode.READ, action.reads))
        if ranges
    ]
