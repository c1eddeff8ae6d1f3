"""Find the races of a small program by trying all legal orders of execution. It uses no clocks.

A program becomes tasks: each action is a task of its thread, and each action on a stream is also a task of the
stream. A task can run as soon as the tasks that it directly waits for are done. The search visits every set of tasks
that can be done at some time in some execution. Two tasks overlap if they can run at the same time in one of these
sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nccl_bench.audit.order.actions import (
    EventDestroyed,
    EventRecorded,
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
    WorkLaunched,
)
from nccl_bench.audit.order.places import ByteRange, Stream, StreamKind
from nccl_bench.audit.order.races import RaceKind
from tests.support.order_programs import Step

Pair = tuple[int, int]  # the numbers of two steps, the earlier one first


@dataclass
class Tasks:
    """The tasks of a program and what each of them waits for."""

    one_host: bool  # whether all threads are one, and waits that promise nothing count
    needs: list[int] = field(default_factory=list)  # for each task, the tasks that it waits for, as bits
    of_step: dict[int, int] = field(default_factory=dict)  # step -> the task that accesses memory
    on_host: set[int] = field(default_factory=set)  # the steps whose accesses the host makes
    # a step that frees, and a task before which nobody gets the memory
    marks: list[tuple[int, int]] = field(default_factory=list)
    threads: dict[int, int] = field(default_factory=dict)  # thread -> its latest task
    streams: dict[Stream, int] = field(default_factory=dict)  # stream -> its latest task
    on_kind: dict[tuple[int, StreamKind], int] = field(default_factory=dict)  # all tasks so far, as bits
    latest: dict[tuple[str, int], int] = field(default_factory=dict)  # event, signal and so on -> its latest task
    recorded: dict[int, set[Stream]] = field(default_factory=dict)  # address -> streams of record_stream
    owners: dict[int, Stream] = field(
        default_factory=dict
    )  # address -> the stream that the block there was allocated on

    def add(self, *after: int | None) -> int:
        self.needs.append(sum(1 << task for task in {*after} if task is not None))
        return len(self.needs) - 1

    def host(self, thread: int, *after: int | None) -> int:
        thread = 0 if self.one_host else thread
        self.threads[thread] = self.add(self.threads.get(thread), *after)
        return self.threads[thread]

    def queue(self, stream: Stream, *after: int | None, stays: bool = True) -> int:
        """Add a task to a stream. A task that does not stay is one that later tasks of the stream do not wait for."""
        task = self.add(self.streams.get(stream), *after)
        opposite = {StreamKind.BLOCKING: StreamKind.LEGACY_DEFAULT, StreamKind.LEGACY_DEFAULT: StreamKind.BLOCKING}
        if stream.kind in opposite:
            self.needs[task] |= self.on_kind.get((stream.device, opposite[stream.kind]), 0)
        if stays:
            self.streams[stream] = task
            key = (stream.device, stream.kind)
            self.on_kind[key] = self.on_kind.get(key, 0) | 1 << task
        return task

    def step(self, number: int, step: Step) -> None:
        action = step.action
        if isinstance(action, WorkLaunched | GraphReplayed):
            self.work(number, action)
        elif isinstance(action, HostAccessed):
            self.of_step[number] = self.host(action.thread)
            self.on_host.add(number)
        elif isinstance(action, EventRecorded):
            task = self.host(action.thread)
            inline = action.stream.kind is StreamKind.INLINE
            self.latest["event", action.event] = task if inline else self.queue(action.stream, task)
        elif isinstance(action, StreamWaited):
            event = self.latest.get(("event", action.event))
            if action.stream.kind is StreamKind.INLINE:
                self.host(action.thread, event)
            else:
                self.queue(action.stream, self.host(action.thread), event)
        elif isinstance(action, HostWaited):
            awaited = list(self.awaited(action)) if self.one_host or not action.is_accidental else []
            self.host(action.thread, *awaited)
        elif isinstance(action, SignalSent):
            self.latest["signal", action.signal] = self.host(action.thread)
        elif isinstance(action, SignalReceived):
            self.host(action.thread, self.latest.get(("signal", action.signal)))
        elif isinstance(action, MemoryAllocated):
            self.of_step[number] = self.queue(action.stream, self.host(action.thread), stays=False)
            self.owners[action.memory.address] = action.stream
        elif isinstance(action, StreamOfMemoryRecorded):
            # torch's allocator ignores the stream that a block was allocated on.
            if action.stream != self.owners.get(action.address):
                self.recorded.setdefault(action.address, set()).add(action.stream)
        elif isinstance(action, MemoryFreed):
            task = self.host(action.thread)
            self.marks.append((number, task))
            for stream in self.recorded.pop(action.address, ()):
                if stream.kind is not StreamKind.INLINE:
                    self.marks.append((number, self.queue(stream, task, stays=False)))
        elif isinstance(action, EventDestroyed):
            self.latest.pop(("event", action.event), None)
        elif isinstance(action, StreamDestroyed):
            self.streams.pop(action.stream, None)

    def work(self, number: int, action: WorkLaunched | GraphReplayed) -> None:
        task = self.host(action.thread)
        key = None
        if isinstance(action, GraphReplayed):
            key = ("graph", action.graph)
        elif action.communicator is not None:
            key = ("communicator", action.communicator)
        before = None if key is None else self.latest.get(key)
        if action.stream.kind is StreamKind.INLINE:
            self.on_host.add(number)
            if before is not None:
                self.needs[task] |= 1 << before
        else:
            task = self.queue(action.stream, task, before)
        if key is not None:
            self.latest[key] = task
        self.of_step[number] = task

    def awaited(self, action: HostWaited) -> Iterator[int | None]:
        if action.event is not None:
            yield self.latest.get(("event", action.event))
        if action.stream is not None:
            yield self.streams.get(action.stream)
        if action.device is not None:
            for (device, _), tasks in self.on_kind.items():
                yield from (task for task in range(len(self.needs)) if device == action.device and tasks >> task & 1)

    def overlaps(self) -> list[int]:
        """Return for each task the tasks that can run at the same time, as bits."""
        watched = sum(1 << task for task in {*self.of_step.values(), *(task for _, task in self.marks)})
        overlaps = [0] * len(self.needs)
        seen = {0}
        states = [0]
        tasks = [(task, 1 << task, needs) for task, needs in enumerate(self.needs)]
        while states:
            done = states.pop()
            ready = [(task, bit) for task, bit, needs in tasks if not (needs & ~done or done & bit)]
            together = sum(bit for _, bit in ready) & watched
            for task, bit in ready:
                overlaps[task] |= together
                if (state := done | bit) not in seen:
                    seen.add(state)
                    states.append(state)
        return overlaps


@dataclass(frozen=True)
class Use:
    """An access of a step to one byte."""

    step: int
    writes: bool


class Search:
    """The races of a program. ``pairs`` has each pair of racing steps with the kinds that its bytes allow."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self.pairs: dict[Pair, set[RaceKind]] = {}
        graphs = {step.capture for step in steps if step.capture is not None}
        for capture in sorted(graphs):
            self._search(capture)
        self._search(None)

    def _search(self, capture: int | None) -> None:
        """Find the races of the work that runs, or of the work in one capture."""
        self._tasks, self._observed = Tasks(one_host=False), Tasks(one_host=True)
        for number, step in enumerate(self._steps):
            if step.capture == capture:
                self._tasks.step(number, step)
                self._observed.step(number, step)
        self._overlaps = self._tasks.overlaps()
        same = self._tasks.needs == self._observed.needs
        self._observed_overlaps = self._overlaps if same else self._observed.overlaps()
        uses = list(self._uses(capture))
        for address in {byte for byte, _ in uses}:
            self._race(address, [use for byte, use in uses if byte == address])
        if capture is None:
            self._hand_out(uses)

    def _uses(self, capture: int | None) -> Iterator[tuple[int, Use]]:
        """Yield the accesses of each byte in the order of the steps; what a step writes stands for what it reads."""
        for number, step in enumerate(self._steps):
            if step.capture != capture:
                continue
            reads, writes = self._ranges(step)
            for byte in sorted(reads | writes):
                yield byte, Use(number, byte in writes)

    def _ranges(self, step: Step) -> tuple[set[int], set[int]]:
        action = step.action
        if isinstance(action, WorkLaunched | HostAccessed):
            return _bytes(action.reads), _bytes(action.writes)
        if isinstance(action, GraphReplayed):
            inner = [self._ranges(step) for step in self._steps if step.capture == action.graph]
            return set().union(*(reads for reads, _ in inner)), set().union(*(writes for _, writes in inner))
        return set(), set()

    def _race(self, address: int, uses: Sequence[Use]) -> None:
        for index, later in enumerate(uses):
            for use in self._remaining(address, uses[:index], later.step):
                by_host = {use.step, later.step} & self._tasks.on_host
                if (use.writes or later.writes) and len(by_host) < 2 and self._overlap(use.step, later.step):
                    moved = any(
                        isinstance(step.action, MemoryAllocated) and address in _bytes([step.action.memory])
                        for step in self._steps[use.step : later.step]
                    )
                    kind = RaceKind.MEMORY if moved else RaceKind.HOST_SPEED if self._is_host(by_host) else None
                    self._add(use.step, later.step, kind or RaceKind.KERNELS)

    def _is_host(self, steps: set[int]) -> bool:
        """Return whether a step is an access of the host itself; inline work of a stream is not."""
        return any(isinstance(self._steps[step].action, HostAccessed) for step in steps)

    def _remaining(self, address: int, uses: Sequence[Use], step: int) -> list[Use]:
        """Return the ``uses`` of a byte that no other one hides from ``step``, and that no free before it ended."""
        return [
            use
            for index, use in enumerate(uses)
            if not any(
                (other.writes or not use.writes)
                and not self._overlap(use.step, other.step)
                # Races between two accesses of the host are not reported, so these hide no race with a stream.
                and (other.step not in self._tasks.on_host or use.step in self._tasks.on_host)
                for other in uses[index + 1 :]
            )
            and not any(
                use.step < free < step and address in memory and not self._mark_overlaps(use.step, free)
                for free, memory in self._frees()
            )
        ]

    def _frees(self) -> Iterator[tuple[int, set[int]]]:
        blocks: dict[int, set[int]] = {}
        for number, step in enumerate(self._steps):
            if isinstance(step.action, MemoryAllocated):
                blocks[step.action.memory.address] = _bytes([step.action.memory])
            elif isinstance(step.action, MemoryFreed):
                yield number, blocks[step.action.address]

    def _mark_overlaps(self, step: int, free: int) -> bool:
        """Return whether ``step`` can still run when the allocator has done all that it waits for."""
        bit = 1 << self._tasks.of_step[step]
        return all(self._overlaps[task] & bit for number, task in self._tasks.marks if number == free)

    def _hand_out(self, uses: Sequence[tuple[int, Use]]) -> None:
        """Find the uses of freed memory that can still run when the block's stream gets memory again."""
        blocks: dict[int, MemoryAllocated] = {}
        free: list[tuple[int, MemoryAllocated]] = []
        for number, step in enumerate(self._steps):
            action = step.action
            if isinstance(action, MemoryFreed):
                free.append((number, blocks[action.address]))
            elif isinstance(action, MemoryAllocated):
                blocks[action.memory.address] = action
                served = [each for each in free if each[1].stream == action.stream]
                for freed, block in served:
                    free.remove((freed, block))
                    for byte in _bytes([block.memory]):
                        earlier = [use for at, use in uses if at == byte and use.step < freed]
                        for use in self._remaining(byte, earlier, number):
                            if self._overlap(use.step, number):
                                self._add(use.step, number, RaceKind.MEMORY)

    def _overlap(self, first: int, second: int) -> bool:
        return bool(self._overlaps[self._tasks.of_step[first]] >> self._tasks.of_step[second] & 1)

    def _add(self, first: int, second: int, kind: RaceKind) -> None:
        of_step = self._observed.of_step
        if not self._observed_overlaps[of_step[first]] >> of_step[second] & 1:
            kind = RaceKind.HOST_SPEED
        self.pairs.setdefault((first, second), set()).add(kind)


def _bytes(ranges: Sequence[ByteRange]) -> set[int]:
    return {byte for memory in ranges for byte in range(memory.address, memory.end)}
