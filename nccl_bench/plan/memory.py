"""The memory of a case on one rank: the number and the size of the slots. A slot is a copy of the buffers."""

from collections.abc import Collection
from dataclasses import dataclass

from nccl_bench.catalog.bounds import Count, Few
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.config.run import RunConfig
from nccl_bench.plan.batches import LAUNCH_QUEUE_ENTRIES
from nccl_bench.plan.scenarios import ROTATED_BYTES, work_of

# A graph has one operation for each slot. With fewer slots, the gap before a graph would distort the times.
FEWEST_SLOTS = 4
# A check looks at this many results that calls have returned.
CHECKED_RESULTS = 4
# Slots are aligned like separate tensors. The allocators of torch and CUDA align tensors to this many bytes.
SLOT_ALIGNMENT_BYTES = 512
# Buffers take at most this share of the free memory. Libraries can need the rest.
MEMORY_SHARE = 0.85
# Memory for the temporary tensors of the check, and for the buffer of the aligning collective.
WORKSPACE_BYTES = 128 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """The memory for all slots of one case on one rank."""

    slots: Few  # the number of copies of the buffers; calls rotate through the copies
    slot_bytes: Count  # the size of the larger of input and output, rounded up to the alignment
    regions: Few  # the number of parts: 1, or 2 if an arm is out of place and its outputs need memory of their own
    results: Few = 0  # the most returned tensors that exist together; they are not in the slots
    work_bytes: Count = 0  # the memory of the work around the collective, such as weights; 0 without such work

    @property
    def slots_bytes(self) -> int:
        """The bytes of all slots, which lie in one block of memory."""
        return self.slots * self.regions * self.slot_bytes

    @property
    def total_bytes(self) -> int:
        """All bytes on one rank: slots, results, a copy of the input, the expected output, work and the workspace."""
        return self.slots_bytes + (2 + self.results) * self.slot_bytes + self.work_bytes + WORKSPACE_BYTES


def slots_of_more_arenas(arena: Arena, count: int, free_bytes: int) -> int:
    """Return the slots that each of ``count`` more arenas like ``arena`` can have; 0 if not even one slot fits."""
    each_bytes = (int(free_bytes * MEMORY_SHARE) - WORKSPACE_BYTES) // count
    return min(arena.slots, max(0, each_bytes // arena.slot_bytes - 2) // arena.regions)


def plan_arena(
    config: RunConfig, case: Case, world_size: int, free_bytes: int, placements: Collection[Placement] | None = None
) -> Arena | None:
    """Return the arena (the memory for all slots) of ``case`` on a rank that has ``free_bytes`` of free memory.

    ``placements`` are the placements of the arms. ``None`` means that every arm is called in the placement of the case.

    If memory is short, the arena has fewer slots. Return ``None`` if not even one slot fits into ``MEMORY_SHARE``.
    """
    placements = [case.placement] if placements is None else placements
    itemsize, row = DTYPES[case.dtype].itemsize, case.row
    elements = max(row.send_count(case.count, world_size), row.receive_count(case.count, world_size))
    slot_bytes = -(-elements * itemsize // SLOT_ALIGNMENT_BYTES) * SLOT_ALIGNMENT_BYTES
    regions = 2 if Placement.OUT_OF_PLACE in placements else 1
    # A graph keeps two results in its own memory, while a check looks at other results.
    results = 2 + CHECKED_RESULTS if Placement.RETURNED in placements else 0
    work_bytes = work_of(config, case, world_size).bytes
    most = ((int(free_bytes * MEMORY_SHARE) - WORKSPACE_BYTES - work_bytes) // slot_bytes - 2 - results) // regions
    if most < 1:
        return None
    wanted = 1 if config.same_buffer else max(FEWEST_SLOTS, min(-(-ROTATED_BYTES // slot_bytes), LAUNCH_QUEUE_ENTRIES))
    return Arena(
        slots=min(wanted, most), slot_bytes=slot_bytes, regions=regions, results=results, work_bytes=work_bytes
    )
