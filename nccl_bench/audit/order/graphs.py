"""A captured graph. In the order, a replay is one piece of work with all reads and writes of the graph."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from nccl_bench.audit.order.places import ByteRange, Stream
from nccl_bench.audit.order.races import Access, AccessMode
from nccl_bench.audit.order.range_map import RangeMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The accesses of a captured graph."""

    reads: tuple[ByteRange, ...]  # bytes that the graph reads and does not write
    writes: tuple[ByteRange, ...]  # bytes that the graph writes
    accesses: RangeMap[Access]  # for each byte the access that a report names: the last write, or else the first read

    @classmethod
    def of(cls, accesses: Iterable[tuple[ByteRange, Sequence[Access]]]) -> Graph:
        """Return the graph with these accesses. Each range comes with its accesses, in their order."""
        named: RangeMap[Access] = RangeMap()
        modes: RangeMap[AccessMode] = RangeMap()
        for memory, of_range in accesses:
            writes = [access for access in of_range if access.mode is AccessMode.WRITE]
            access = replace(writes[-1] if writes else of_range[0], in_graph=True)
            named.set(memory, access)
            modes.set(memory, access.mode)
        return cls(
            reads=tuple(memory for memory, mode in modes if mode is AccessMode.READ),
            writes=tuple(memory for memory, mode in modes if mode is AccessMode.WRITE),
            accesses=named,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A replay of a graph, which stands for the accesses of the graph."""

    graph: Graph  # what is replayed
    thread: int  # the host thread that launched the replay
    stream: Stream  # the stream of the replay
    where: Hashable  # the stack of the replay

    def access(self, address: int) -> Access:
        """Return the access of the graph to the byte at ``address``."""
        ((_, access),) = self.graph.accesses.overlapping(ByteRange(address=address, length=1))
        return replace(access, thread=self.thread, stream=self.stream, replayed=self.where)
