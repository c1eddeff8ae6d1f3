"""Short ways to write the actions of a program for the order, and to read the races that it reports."""

from __future__ import annotations

from collections.abc import Iterable

from nccl_bench.audit.order.actions import (
    Action,
    EventRecorded,
    HostAccessed,
    MemoryAllocated,
    MemoryFreed,
    StreamWaited,
    Work,
    WorkLaunched,
)
from nccl_bench.audit.order.order import Order
from nccl_bench.audit.order.places import ByteRange, Stream, StreamKind
from nccl_bench.audit.order.races import Missing, Race

MAIN = Stream(device=0, handle=0, kind=StreamKind.LEGACY_DEFAULT)
SIDE = Stream(device=0, handle=7)
THIRD = Stream(device=0, handle=8)
BLOCKING = Stream(device=0, handle=9, kind=StreamKind.BLOCKING)
INLINE = Stream(device=-1, handle=0, kind=StreamKind.INLINE)
INPUT = ByteRange(address=1000, length=64)
OUTPUT = ByteRange(address=2000, length=64)


def work(name: str) -> Work:
    return Work(name=name, is_collective=name == "all_reduce", where=f"line of {name}")


def launched(
    name: str,
    stream: Stream,
    *,
    reads: Iterable[ByteRange] = (),
    writes: Iterable[ByteRange] = (),
    thread: int = 1,
    communicator: int | None = None,
) -> WorkLaunched:
    return WorkLaunched(
        thread=thread,
        stream=stream,
        work=work(name),
        reads=tuple(reads),
        writes=tuple(writes),
        communicator=communicator,
    )


def host_reads(memory: ByteRange, thread: int = 1) -> HostAccessed:
    return HostAccessed(thread=thread, work=work("item"), reads=(memory,))


def waits(waiting: Stream, awaited: Stream, event: int = 5) -> tuple[Action, Action]:
    return (
        EventRecorded(thread=1, event=event, stream=awaited),
        StreamWaited(thread=1, stream=waiting, event=event),
    )


def allocated(memory: ByteRange, stream: Stream) -> MemoryAllocated:
    return MemoryAllocated(thread=1, memory=memory, stream=stream, work=work("allocation"))


def freed(memory: ByteRange) -> MemoryFreed:
    return MemoryFreed(thread=1, address=memory.address, where="line of del")


PRODUCER = launched("mul", MAIN, writes=[INPUT])
COLLECTIVE = launched("all_reduce", SIDE, reads=[INPUT], writes=[OUTPUT])
CONSUMER = launched("copy", MAIN, reads=[OUTPUT])
FORK = waits(SIDE, MAIN)
JOIN = waits(MAIN, SIDE)


def races(*actions: Action) -> tuple[Race, ...]:
    order = Order()
    for action in actions:
        order.take(action)
    return order.races


def names(*actions: Action) -> list[tuple[str, str, Missing]]:
    return [(race.first.work.name, race.second.work.name, race.missing) for race in races(*actions)]
