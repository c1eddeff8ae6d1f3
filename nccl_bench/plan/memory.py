"""The memory of a case on one rank: the number and the size of the slots. A slot is a copy of the buffers."""

from dataclasses import dataclass

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.config.run import RunConfig
from nccl_bench.plan.batches import LAUNCH_QUEUE_ENTRIES

# Calls rotate through the slots. All slots together are larger than the last-level cache (H200: 60 MB, B200: 126 MB).
ARENA_BYTES = 256 * 1024**2
# A graph has one operation for each slot. With fewer slots, the gap before a graph would distort the times.
FEWEST_SLOTS = 4
# Slots are aligned like separate tensors. The allocators of torch and CUDA align tensors to this many bytes.
SLOT_ALIGNMENT_BYTES = 512
# Buffers take at most this share of the free memory. Libraries can need the rest.
MEMORY_SHARE = 0.85
# Memory for the temporary tensors of the check, and for the buffer of the aligning collective.
WORKSPACE_BYTES = 128 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """The memory for all slots of one case on one rank."""

    slots: int  # the number of copies of the buffers; calls rotate through the copies
    slot_bytes: int  # the size of the larger of input and output, rounded up to the alignment
    regions: int  # the number of parts: 1 if in place; otherwise 2, for the inputs and for the outputs

    @property
    def slots_bytes(self) -> int:
        """The bytes of all slots, which lie in one block of memory."""
        return self.slots * self.regions * self.slot_bytes

    @property
    def total_bytes(self) -> int:
        """All bytes on one rank: the slots, a copy of the input, the expected output and the workspace."""
        return self.slots_bytes + 2 * self.slot_bytes + WORKSPACE_BYTES


def slots_of_more_arenas(arena: Arena, count: int, free_bytes: int) -> int:
    """Return the slots that each of ``count`` more arenas like ``arena`` can have; 0 if not even one slot fits."""
    each_bytes = (int(free_bytes * MEMORY_SHARE) - WORKSPACE_BYTES) // count
    return min(arena.slots, max(0, each_bytes // arena.slot_bytes - 2) // arena.regions)


def plan_arena(config: RunConfig, case: Case, world_size: int, free_bytes: int) -> Arena | None:
    """Return the arena (the memory for all slots) of ``case`` on a rank that has ``free_bytes`` of free memory.

    If memory is short, the arena has fewer slots. Return ``None`` if not even one slot fits into ``MEMORY_SHARE``.
    """
    itemsize, row = DTYPES[case.dtype].itemsize, case.row
    elements = max(row.send_count(case.count, world_size), row.receive_count(case.count, world_size))
    slot_bytes = -(-elements * itemsize // SLOT_ALIGNMENT_BYTES) * SLOT_ALIGNMENT_BYTES
    regions = 1 if case.placement is Placement.IN_PLACE else 2
    most = ((int(free_bytes * MEMORY_SHARE) - WORKSPACE_BYTES) // slot_bytes - 2) // regions
    if most < 1:
        return None
    wanted = 1 if config.same_buffer else max(FEWEST_SLOTS, min(-(-ARENA_BYTES // slot_bytes), LAUNCH_QUEUE_ENTRIES))
    return Arena(slots=min(wanted, most), slot_bytes=slot_bytes, regions=regions)
