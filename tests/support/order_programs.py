"""Random programs of streams, events, threads, memory and graphs, as the actions that a source would report."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from nccl_bench.audit.order.actions import (
    Action,
    CaptureBegun,
    CaptureEnded,
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
    Work,
    WorkLaunched,
)
from nccl_bench.audit.order.places import ByteRange, Stream, StreamKind

STREAMS = (
    Stream(device=0, handle=0, kind=StreamKind.LEGACY_DEFAULT),
    Stream(device=0, handle=1, kind=StreamKind.BLOCKING),
    Stream(device=0, handle=2, kind=StreamKind.BLOCKING),
    Stream(device=0, handle=3),
    Stream(device=0, handle=4),
    Stream(device=1, handle=0, kind=StreamKind.LEGACY_DEFAULT),
    Stream(device=1, handle=5, kind=StreamKind.BLOCKING),
    Stream(device=-1, handle=0, kind=StreamKind.INLINE),
)
BYTES = 6  # the number of bytes that no allocator hands out
FIRST_BLOCK = 100  # the address of the first byte that the allocator hands out
BLOCKS = 2  # the number of blocks of BLOCK_BYTES that the allocator has for each stream
BLOCK_BYTES = 4
NO_SIGNAL = -1


@dataclass(frozen=True, slots=True)
class Step:
    """An action of a program."""

    action: Action
    capture: int | None = None  # the number of the graph that the action becomes a part of; None if it runs


@dataclass
class Program:
    """A program in the making. Work has the number of its step as its stack."""

    random: random.Random
    streams: tuple[Stream, ...]
    threads: int
    steps: list[Step] = field(default_factory=list)
    events: int = 0
    graphs: int = 0
    has_allocated: bool = False
    blocks: dict[int, ByteRange] = field(default_factory=dict)  # the blocks in use, by address

    @property
    def thread(self) -> int:
        return self.random.randrange(self.threads)

    @property
    def stream(self) -> Stream:
        return self.random.choice(self.streams)

    def add(self, action: Action, capture: int | None = None) -> None:
        self.steps.append(Step(action, capture))

    def memory(self) -> ByteRange:
        if self.blocks and self.random.random() < 0.7:
            start, count = self.random.choice(list(self.blocks.values())).address, BLOCK_BYTES
        else:
            start, count = 0, BYTES
        first = self.random.randrange(count)
        return ByteRange(address=start + first, length=self.random.randint(1, count - first))

    def ranges(self, chance: float) -> tuple[ByteRange, ...]:
        return tuple(self.memory() for _ in range(2) if self.random.random() < chance)

    def work(self) -> dict[str, object]:
        where = len(self.steps)
        return {
            "work": Work(name="work", is_collective=self.random.random() < 0.3, where=where),
            "reads": self.ranges(0.5),
            "writes": self.ranges(0.4),
        }

    def launch(self, stream: Stream | None = None, capture: int | None = None) -> None:
        communicator = self.random.choice((1, 2)) if self.random.random() < 0.1 else None
        action = WorkLaunched(
            thread=self.thread, stream=stream or self.stream, communicator=communicator, **self.work()
        )  # type: ignore[arg-type]
        self.add(action, capture)

    def access(self) -> None:
        self.add(HostAccessed(thread=self.thread, **self.work()))  # type: ignore[arg-type]

    def event(self) -> int:
        """Return a new event, or one that was used before."""
        self.events += self.random.random() < 0.7
        return self.random.randrange(self.events + 1)

    def record(self) -> None:
        self.add(EventRecorded(thread=self.thread, event=self.event(), stream=self.stream))

    def wait(self) -> None:
        self.add(StreamWaited(thread=self.thread, event=self.random.randrange(self.events + 1), stream=self.stream))

    def wait_stream(self) -> None:
        event = self.event()
        self.add(EventRecorded(thread=self.thread, event=event, stream=self.stream))
        if self.random.random() < 0.2:
            self.launch()
        self.add(StreamWaited(thread=self.thread, event=event, stream=self.stream))

    def wait_on_host(self) -> None:
        target = self.random.choice(
            ({"stream": self.stream}, {"event": self.random.randrange(self.events + 1)}, {"device": 0}, {"device": -1})
        )
        action = HostWaited(thread=self.thread, is_accidental=self.random.random() < 0.2, **target)  # type: ignore[arg-type]
        self.add(action)

    def signal(self) -> None:
        number = self.random.randrange(2)
        kind = self.random.choice((SignalSent, SignalReceived))
        self.add(kind(thread=self.thread, signal=number))

    def destroy(self) -> None:
        # Nobody can destroy a default stream, or a stream whose memory the allocator still has.
        made = [stream for stream in self.streams if stream.handle and not self.has_allocated]
        if made and self.random.random() < 0.5:
            self.add(StreamDestroyed(stream=self.random.choice(made)))
        else:
            event = self.random.randrange(self.events + 1)
            self.add(EventDestroyed(event=event))
            self.add(StreamWaited(thread=self.thread, event=event, stream=self.stream))

    def allocate(self) -> None:
        streams = [stream for stream in self.streams if stream.kind is not StreamKind.INLINE]
        if not streams:
            return
        stream = self.random.choice(streams)
        # An allocator never gives the memory of one stream to another stream.
        pool = FIRST_BLOCK + STREAMS.index(stream) * BLOCKS * BLOCK_BYTES
        free = [at for at in range(pool, pool + BLOCKS * BLOCK_BYTES, BLOCK_BYTES) if at not in self.blocks]
        if free:
            memory = ByteRange(address=self.random.choice(free), length=BLOCK_BYTES)
            self.blocks[memory.address] = memory
            self.has_allocated = True
            work = Work(name="allocation", where=len(self.steps))
            self.add(MemoryAllocated(thread=self.thread, memory=memory, stream=stream, work=work))

    def free(self) -> None:
        if self.blocks:
            memory = self.blocks.pop(self.random.choice(list(self.blocks)))
            if self.random.random() < 0.5:
                self.add(StreamOfMemoryRecorded(address=memory.address, stream=self.stream))
            self.add(MemoryFreed(thread=self.thread, address=memory.address))
            if self.random.random() < 0.7:
                self.allocate()

    def capture(self) -> None:
        """Capture work on some streams, all of which fork from the first one and join it again."""
        streams = [stream for stream in self.streams if stream.kind is StreamKind.NON_BLOCKING]
        if not streams:
            return
        origin = self.random.choice(streams)
        self.graphs += 1
        graph, thread, events = self.graphs, self.thread, 1000 + 10 * self.graphs
        captured = [origin]
        self.add(CaptureBegun(thread=thread, stream=origin))
        for _ in range(self.random.randint(2, 5)):
            other = self.random.choice(streams)
            if other in captured:
                self.launch(other, graph)
            else:
                self.add(EventRecorded(thread=thread, event=events, stream=origin), graph)
                self.add(StreamWaited(thread=thread, event=events, stream=other), graph)
                captured.append(other)
        for number, stream in enumerate(captured[1:], 1):
            if self.random.random() < 0.5:
                self.launch(stream, graph)
            self.add(EventRecorded(thread=thread, event=events + number, stream=stream), graph)
            self.add(StreamWaited(thread=thread, event=events + number, stream=origin), graph)
        if self.random.random() < 0.5:
            self.launch(origin, graph)
        self.add(CaptureEnded(thread=thread, stream=origin, graph=graph))

    def replay(self) -> None:
        if not self.graphs:
            return self.capture()
        graph = self.random.randint(1, self.graphs)
        streams = [stream for stream in self.streams if stream.kind is not StreamKind.INLINE]
        if streams:
            stream = self.random.choice(streams)
            self.add(GraphReplayed(thread=self.thread, graph=graph, stream=stream, where=len(self.steps)))
        return None


def random_program(seed: int) -> list[Step]:
    """Return the program of a seed: up to four streams, two threads, and about a dozen actions."""
    source = random.Random(seed)
    threads = source.choice((1, 1, 1, 2))
    program = Program(source, tuple(source.sample(STREAMS, source.randint(2, 4))), threads)
    for thread in range(threads if threads > 1 else 0):
        program.add(SignalReceived(thread=thread, signal=NO_SIGNAL))
    weights: dict[Callable[[], None], float] = {
        program.launch: 8,
        program.wait_stream: 3,
        program.record: 1,
        program.wait: 1,
        program.wait_on_host: 1.5,
        program.access: 0.7,
        program.signal: 1.5 if threads > 1 else 0,
        program.destroy: 0.6,
    }
    # Each of these takes many actions, so a program has at most one of them.
    feature = source.choice(("memory", "graphs", "none"))
    if feature == "memory":
        program.allocate()
        weights |= {program.allocate: 2, program.free: 3}
    elif feature == "graphs":
        weights |= {program.capture: 0.7, program.replay: 2}
    length = source.randint(5, 13)
    while len(program.steps) < length:
        source.choices(list(weights), list(weights.values()))[0]()
    return program.steps
