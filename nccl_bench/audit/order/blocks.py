"""The blocks of the caching allocator: who may use their memory next, and when."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from nccl_bench.audit.order.clocks import Clock, Lane
from nccl_bench.audit.order.history import Entry, follows
from nccl_bench.audit.order.places import ByteRange, Stream
from nccl_bench.audit.order.range_map import RangeMap
from nccl_bench.audit.order.world import World

# torch's allocator serves requests up to this size from a separate pool (kSmallSize in CUDACachingAllocator).
SMALL_BYTES = 1 << 20


@dataclass(slots=True, eq=False)
class Block:
    """Memory that the allocator handed out."""

    memory: ByteRange  # the bytes
    stream: Stream  # the stream on which the allocator orders the block
    world: World  # where the block was allocated: eagerly, or in a capture
    time: int  # the time of the newest work when the block was allocated
    streams: set[Lane] = field(default_factory=set)  # the streams of record_stream
    is_freed: bool = False  # whether the block is free again
    freed: Hashable = None  # the stack that freed the block; None while the block is in use
    replaced: Hashable = None  # the stack that freed the earlier block in this memory; None without one


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A freed block that a stream may still use, so the allocator must not hand it out yet."""

    block: Block  # the block
    uses: tuple[tuple[Entry, ByteRange], ...]  # the accesses that the block's stream did not follow at the free

    def without(self, clock: Clock) -> Pending | None:
        """Return the block without the accesses that ``clock`` follows; ``None`` if none is left."""
        uses = tuple(use for use in self.uses if not follows(clock, use[0]))
        return Pending(self.block, uses) if uses else None

    def can_serve(self, new: Block) -> bool:
        """Return whether the allocator handed out the memory again as ``new``, or could have done so."""
        memory, wanted = self.block.memory, new.memory
        if self.block.world is not new.world:
            return False
        if memory.address < wanted.end and wanted.address < memory.end:
            return True
        same_pool = (memory.length <= SMALL_BYTES) == (wanted.length <= SMALL_BYTES)
        return self.block.stream == new.stream and same_pool and wanted.length <= memory.length


class Blocks:
    """All blocks. Memory without a ``MemoryAllocated`` has no block, and a free of such memory has no effect."""

    def __init__(self) -> None:
        self._blocks: RangeMap[Block] = RangeMap()
        self._pending: list[Pending] = []

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self._blocks)

    def at(self, address: int) -> Block | None:
        """Return the newest block that contains ``address``, in use or freed."""
        return self._blocks.at(address)

    def allocate(self, block: Block) -> list[Pending]:
        """Add a block, and return the pending blocks whose memory the allocator could have used for it."""
        for _, old in self._blocks.overlapping(block.memory):
            block.replaced = block.replaced or old.freed
        self._blocks.set(block.memory, block)
        if not self._pending:
            return []
        served = [pending for pending in self._pending if pending.can_serve(block)]
        self._pending = [pending for pending in self._pending if pending not in served]
        return served

    def keep_pending(self, block: Block, known: Clock) -> None:
        """Keep a freed block as pending if its stream, with the clock ``known``, does not follow all accesses."""
        uses = tuple(use for use in block.world.history.entries(block.memory) if not follows(known, use[0]))
        if uses:
            self._pending.append(Pending(block, uses))

    def forget(self, common: Clock) -> None:
        """Forget the uses of freed blocks that ``common`` covers, and keep the other uses."""
        self._pending = [rest for pending in self._pending if (rest := pending.without(common))]

    def end(self, world: World) -> None:
        """Forget the freed blocks of a capture that ended. The capture's memory belongs to the graph."""
        self._pending = [pending for pending in self._pending if pending.block.world is not world]
