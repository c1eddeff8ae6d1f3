"""The memory of a case on one rank: how many copies of its buffers, and of which size."""

from __future__ import annotations

from dataclasses import dataclass

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.config.run import RunConfig
from nccl_bench.plan.batches import LAUNCH_QUEUE_ENTRIES

# Calls rotate through an arena larger than any last-level cache of today's devices (H200: 60 MB, B200: 126 MB).
ARENA_BYTES = 256 * 1024**2
# With fewer slots, a graph of very large operations would be timed together with its launch gap.
FEWEST_SLOTS = 4
# The allocators of torch and of CUDA align to this, so a slot is aligned like a tensor of its own.
SLOT_ALIGNMENT_BYTES = 512
# A library may still allocate the rest of the free memory for itself.
MEMORY_SHARE = 0.85
# The temporaries of the check, and the buffer of the aligning collective.
WORKSPACE_BYTES = 128 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """The buffers of one case on one rank."""

    slots: int  # the number of copies that the calls rotate through
    slot_bytes: int  # the size of an input or an output, aligned
    regions: int  # equal parts: 1 in place; 2 out of place, one for the inputs and one for the outputs

    @property
    def slots_bytes(self) -> int:
        """The bytes of all slots, which lie in one piece."""
        return self.slots * self.regions * self.slot_bytes

    @property
    def total_bytes(self) -> int:
        """The bytes on one rank: the slots, one copy each of the input and the expected output, the workspace."""
        return self.slots_bytes + 2 * self.slot_bytes + WORKSPACE_BYTES


def plan_arena(config: RunConfig, case: Case, world_size: int, free_bytes: int) -> Arena | None:
    """Return the arena of ``case`` on a rank with ``free_bytes``, with fewer slots if only those fit.

    Returns ``None`` where not even one slot fits into the share of the memory that buffers may take.
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
