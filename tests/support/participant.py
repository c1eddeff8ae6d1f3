"""A rank that takes part in collectives on the CPU, and the cases and buffers of its calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.arms.arm import Operation
from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.plan.memory import Arena
from nccl_bench.transports.device import Device

# Calls of a case, each with buffers of its own.
SLOTS = 2
# Elements by world size. Odd numbers: one is longer than the period of the value tables, the other is tiny.
COUNTS = {2: 4099, 3: 5}
# The root by world size. It is not always the first rank.
ROOTS = {2: 1, 3: 0}
# Long enough that unordered work reads or writes at the wrong time.
DELAY_S = 0.05


def make_case(collective: str, dtype: str, redop: RedOp | None, placement: Placement, world_size: int) -> Case:
    """Return a case with the count and the root of ``world_size`` ranks."""
    row, count = COLLECTIVES[collective], COUNTS[world_size]
    return Case(
        scenario=Scenario.ISOLATED,
        collective=collective,
        dtype=dtype,
        redop=redop,
        placement=placement,
        root=ROOTS[world_size] if row.rooted else None,
        size_bytes=row.size_bytes(count, DTYPES[dtype].itemsize, world_size),
        count=count,
    )


@lru_cache(maxsize=1)
def make_buffers(case: Case, rank: int, world_size: int) -> CaseBuffers:
    """Return the buffers of one rank on the CPU. All arms of a case use them in turn, as in the benchmark."""
    slot_bytes = -(-case.size_bytes // 512) * 512
    regions = 2 if case.placement is Placement.OUT_OF_PLACE else 1
    arena = Arena(slots=SLOTS, slot_bytes=slot_bytes, regions=regions)
    return CaseBuffers(case, arena, rank, world_size, torch.device("cpu"))


@dataclass(frozen=True, kw_only=True)
class Participant:
    """This rank, its device, and the stream that every arm is called on."""

    group: dist.ProcessGroup
    device: Device
    caller: Any
    rank: int
    world_size: int

    def wrong(self, case: Case, bind: Callable[[Tensor, Any], Operation]) -> int:
        """Call once a slot, wait for the caller's stream, and return the number of wrong elements on this rank."""
        buffers, placement = make_buffers(case, self.rank, self.world_size), case.placement
        buffers.poison(SLOTS, placement)
        with self.device.streams.stream(self.caller):
            returned: list[Any] = [call() for call in [bind(*buffers.pair(slot, placement)) for slot in range(SLOTS)]]
        # Do not wait for the device: unjoined work must count as missing.
        self.caller.synchronize()
        return buffers.wrong(returned if placement is Placement.RETURNED else buffers.outputs(SLOTS, placement))
