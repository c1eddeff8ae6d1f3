"""From a configuration to the cases of a run: what is measured, what is left out and why, and what it takes. No torch.

Every rank and the command line compute the same plan from the same configuration, so ``--dry-run`` shows what a worker
will do.
"""

from __future__ import annotations

from dataclasses import dataclass

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.config.run import RunConfig
from nccl_bench.plan.batches import LAUNCH_QUEUE_ENTRIES

# Calls rotate through an arena larger than any last-level cache of today's devices (H200: 60 MB, B200: 126 MB).
ARENA_BYTES = 256 * 1024**2


# A graph of one very large operation would be timed with its launch gap; a few hide it.
FEWEST_SLOTS = 4


# Buffers start on the boundary torch's and CUDA's allocators give, so a slot is as aligned as a tensor of its own.
SLOT_ALIGNMENT_BYTES = 512


# What a library may still allocate for itself once the buffers are there.
MEMORY_SHARE = 0.85


# The comparison's temporaries and the aligning collective's buffer.
WORKSPACE_BYTES = 128 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """The buffers of one case on one rank: ``slots`` copies, ``slot_bytes`` each, in ``regions`` equal parts.

    In place there is one region; out of place the input has one and the output another.
    """

    slots: int
    slot_bytes: int
    regions: int

    @property
    def slots_bytes(self) -> int:
        """Bytes of all slots, which lie in one piece."""
        return self.slots * self.regions * self.slot_bytes

    @property
    def total_bytes(self) -> int:
        """Bytes taken on one rank: the slots, one copy each of the input and of the expected output, the workspace."""
        return self.slots_bytes + 2 * self.slot_bytes + WORKSPACE_BYTES


def plan_arena(config: RunConfig, case: Case, world_size: int, free_bytes: int) -> Arena | None:
    """The arena of ``case`` where one rank has ``free_bytes``, with fewer slots if that makes it fit.

    ``None`` where not even one slot fits into the share of the memory that buffers may take.
    """
    budget_bytes = int(free_bytes * MEMORY_SHARE)
    itemsize = DTYPES[case.dtype].itemsize
    row = case.row
    elements = max(row.send_count(case.count, world_size), row.receive_count(case.count, world_size))
    slot_bytes = -(-elements * itemsize // SLOT_ALIGNMENT_BYTES) * SLOT_ALIGNMENT_BYTES
    regions = 1 if case.placement is Placement.IN_PLACE else 2
    most = ((budget_bytes - WORKSPACE_BYTES) // slot_bytes - 2) // regions
    if most < 1:
        return None
    wanted = 1 if config.same_buffer else max(FEWEST_SLOTS, min(-(-ARENA_BYTES // slot_bytes), LAUNCH_QUEUE_ENTRIES))
    return Arena(slots=min(wanted, most), slot_bytes=slot_bytes, regions=regions)
