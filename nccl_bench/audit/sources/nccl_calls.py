"""The arguments of NCCL's functions, as in nccl.h: the buffers and their lengths, the communicator, the stream."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nccl_bench.audit.order.actions import (
    EventDestroyed,
    EventRecorded,
    StreamWaited,
    WorkLaunched,
)
from nccl_bench.audit.order.places import ByteRange, Stream
from nccl_bench.audit.sources.feed import Feed
from nccl_bench.audit.sources.model import DeviceModel
from nccl_bench.audit.sources.ranges import Touched
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.transports.nccl import DataType

# NCCL's number of a data type -> the bytes of one element.
NCCL_ITEM_BYTES: Mapping[int, int] = {DataType[name.upper()].value: dtype.itemsize for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """An argument that points to a buffer."""

    index: int  # the position of the pointer among the arguments
    per_rank: bool = False  # True if the buffer has a block of `count` elements for each rank
    at_root_only: bool = False  # True if only the root uses it
    not_at_root: bool = False  # True if the root does not use it


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function that launches work. Positions are those of nccl.h; the stream is the last argument."""

    name: str  # the collective, with the name of the catalog
    count: int  # the position of the count
    reads: tuple[Buffer, ...] = ()  # the buffers that it reads
    writes: tuple[Buffer, ...] = ()  # the buffers that it writes
    root: int | None = None  # the position of the root; None if all ranks do the same
    # The data type and the communicator follow the count and precede the stream.

    def dtype(self, args: Sequence[int]) -> int:
        """Return NCCL's number of the data type."""
        return args[self.count + 1]


def _function(name: str, reads: int | Buffer, writes: int | Buffer, root: int | None = None) -> Function:
    read, written = (Buffer(index=each) if isinstance(each, int) else each for each in (reads, writes))
    return Function(name=name, count=2, reads=(read,), writes=(written,), root=root)


FUNCTIONS: Mapping[str, Function] = {
    "ncclAllReduce": _function("all_reduce", 0, 1),
    "ncclBroadcast": _function("broadcast", Buffer(index=0, at_root_only=True), 1, root=4),
    "ncclBcast": Function(
        name="broadcast",
        count=1,
        reads=(Buffer(index=0, at_root_only=True),),
        writes=(Buffer(index=0, not_at_root=True),),
        root=3,
    ),
    "ncclReduce": _function("reduce", 0, Buffer(index=1, at_root_only=True), root=5),
    "ncclAllGather": _function("all_gather", 0, Buffer(index=1, per_rank=True)),
    "ncclReduceScatter": _function("reduce_scatter", Buffer(index=0, per_rank=True), 1),
    "ncclAlltoAll": _function("all_to_all", Buffer(index=0, per_rank=True), Buffer(index=1, per_rank=True)),
    "ncclGather": _function("gather", 0, Buffer(index=1, per_rank=True, at_root_only=True), root=4),
    "ncclScatter": _function("scatter", Buffer(index=0, per_rank=True, at_root_only=True), 1, root=4),
    "ncclSend": Function(name="send", count=1, reads=(Buffer(index=0),)),
    "ncclRecv": Function(name="recv", count=1, writes=(Buffer(index=0),)),
}
GROUP_START, GROUP_END = "ncclGroupStart", "ncclGroupEnd"
ENDS = frozenset({"ncclCommDestroy", "ncclCommAbort", "ncclCommFinalize", "ncclCommRevoke"})
_CONFIG = "Config"  # ncclAllReduceConfig is ncclAllReduce with a configuration as one more argument
WATCHED = frozenset({*FUNCTIONS, *(f"{name}{_CONFIG}" for name in FUNCTIONS), *ENDS, GROUP_START, GROUP_END})


@dataclass(frozen=True, slots=True, kw_only=True)
class CommFacts:
    """Facts about a communicator."""

    rank: int  # the rank of this process in the communicator
    world_size: int  # its number of ranks


@dataclass
class _Group(threading.local):
    """The open group of the calling thread."""

    depth: int = 0  # the number of groups that are open, one inside another
    works: list[WorkLaunched] = field(default_factory=list)  # the works that the end of the group launches


class NcclCalls:
    """Turns calls of NCCL's functions, or of functions with the same arguments, into actions."""

    def __init__(self, feed: Feed, model: DeviceModel, item_bytes: Mapping[int, int] = NCCL_ITEM_BYTES) -> None:
        self._item_bytes = item_bytes
        self._feed = feed
        self._model = model
        self._group = _Group()
        self._facts: dict[int, CommFacts] = {}

    def called(self, function: str, args: Sequence[int], facts: Callable[[int], CommFacts]) -> None:
        """Take a call that NCCL has accepted. ``args`` are plain ints; ``facts`` returns facts about a communicator."""
        if function == GROUP_START:
            self._group.depth += 1
        elif function == GROUP_END:
            self._group.depth = max(0, self._group.depth - 1)
            if not self._group.depth:
                works, self._group.works = self._group.works, []
                self._launch(works)
        elif function in ENDS:
            self._facts.pop(args[0], None)
        else:
            if function.endswith(_CONFIG):
                function, args = function.removesuffix(_CONFIG), args[:-1]
            work = self._work(FUNCTIONS[function], args, facts)
            if self._group.depth:
                self._group.works.append(work)
            else:
                self._feed.put(work)

    def _work(self, function: Function, args: Sequence[int], facts: Callable[[int], CommFacts]) -> WorkLaunched:
        comm, stream = args[-2:]
        if comm not in self._facts:
            self._facts[comm] = facts(comm)
        fact = self._facts[comm]
        is_root = function.root is not None and args[function.root] == fact.rank
        length = args[function.count] * self._item_bytes[function.dtype(args)]

        def ranges(buffers: tuple[Buffer, ...]) -> tuple[ByteRange, ...]:
            return tuple(
                ByteRange(address=args[each.index], length=length * (fact.world_size if each.per_rank else 1))
                for each in buffers
                if not (each.at_root_only and not is_root) and not (each.not_at_root and is_root)
            )

        touched = Touched(reads=ranges(function.reads), writes=ranges(function.writes))
        return self._feed.launched(
            function.name,
            self._model.stream(stream),
            touched,
            self._feed.stack(),
            is_collective=True,
            communicator=comm,
        )

    def _launch(self, works: Sequence[WorkLaunched]) -> None:
        """Launch the works of a group.

        A group on several streams waits for all these streams, and then all streams wait for the group: see "Using
        multiple streams" in NCCL's user guide on group calls.
        """
        streams = list(dict.fromkeys(work.stream for work in works))
        self._join(streams)
        self._feed.extend(works)
        self._join(streams)

    def _join(self, streams: Sequence[Stream]) -> None:
        if len(streams) < 2:
            return
        thread = self._feed.thread()
        events = [self._feed.new_number() for _ in streams]
        for event, stream in zip(events, streams, strict=True):
            self._feed.put(EventRecorded(thread=thread, event=event, stream=stream))
        for stream in streams:
            for event in events:
                self._feed.put(StreamWaited(thread=thread, stream=stream, event=event))
        for event in events:
            self._feed.put(EventDestroyed(event=event))
