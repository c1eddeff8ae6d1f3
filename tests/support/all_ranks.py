"""The buffers of every rank in one process, and the collectives by their definition."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.config.run import resolve
from nccl_bench.plan.memory import WORKSPACE_BYTES, plan_arena

CPU = torch.device("cpu")
# The number of elements, in nccl-tests' sense, of a case that does not say one.
COUNT = 37
# The integers of each size, to plant errors in.
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Each collective with each reduction and placement that it has.
KINDS = [
    (name, redop, placement)
    for name, row in COLLECTIVES.items()
    for redop in (tuple(RedOp) if row.reduces else (None,))
    for placement in row.placements
]
# These collectives with sums only.
SUMS = [kind for kind in KINDS if kind[1] in (None, RedOp.SUM)]


class AllRanks:
    """The buffers of one case on every rank, poisoned and ready for a call."""

    def __init__(
        self,
        collective: str,
        redop: RedOp | None,
        placement: Placement,
        *,
        dtype: str = "bfloat16",
        ranks: int = 3,
        count: int = COUNT,
        slots: int = 2,
        root: int = 1,
    ) -> None:
        row = COLLECTIVES[collective]
        self.case = Case(
            scenario=Scenario.ISOLATED,
            collective=collective,
            dtype=dtype,
            redop=redop,
            placement=placement,
            root=min(root, ranks - 1) if row.rooted else None,
            size_bytes=row.size_bytes(count, DTYPES[dtype].itemsize, ranks),
            count=count,
        )
        room = WORKSPACE_BYTES + 64 * 1024**2
        arena = plan_arena(resolve("cpu", {}), self.case, ranks, room)
        assert arena is not None
        self.ranks = [CaseBuffers(self.case, replace(arena, slots=slots), rank, ranks, CPU) for rank in range(ranks)]
        self.slots = slots
        for buffers in self.ranks:
            buffers.poison(slots, placement)
        receive = row.receive_count(count, ranks)
        # The outputs of each rank, by slot. Returned outputs are tensors of a user's call.
        self.outputs = [
            [torch.empty(receive, dtype=buffers.input(0).dtype) for _ in range(slots)]
            if placement is Placement.RETURNED
            else buffers.outputs(slots, placement)
            for buffers in self.ranks
        ]
        if placement is Placement.RETURNED:
            # New memory can hold right values that an earlier test has left there.
            for buffers, outputs in zip(self.ranks, self.outputs, strict=True):
                buffers.poison(slots, placement, outputs)

    def run(
        self, change: Callable[[list[Tensor]], list[Tensor]] = lambda inputs: inputs, *, root: int | None = None
    ) -> AllRanks:
        """Do the collective in every slot, with changed inputs or another root."""
        case = self.case if root is None else replace(self.case, root=root)
        for slot in range(self.slots):
            inputs = [buffers.input(slot).clone() for buffers in self.ranks]
            collective(case, change(inputs), [outputs[slot] for outputs in self.outputs])
        return self

    def wrong(self) -> list[int]:
        return [self.wrong_of(rank, self.slots) for rank in range(len(self.ranks))]

    def wrong_of(self, rank: int, slots: int) -> int:
        """Return the number of wrong elements in the first slots of a rank."""
        return self.ranks[rank].wrong(self.outputs[rank][:slots])

    def bits(self, rank: int, slot: int = 0) -> Tensor:
        """Return the output of a rank as integers, to plant an error in."""
        output = self.outputs[rank][slot]
        return output.view(BITS[output.dtype.itemsize])

    @property
    def checked(self) -> list[int]:
        """The ranks whose output is defined."""
        return [self.case.root or 0] if self.case.row.result_at_root else list(range(len(self.ranks)))


def collective(case: Case, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """Do the collective as it is defined."""
    ranks, root = range(len(inputs)), case.root or 0
    ends = [0, *itertools.accumulate(case.row.block_counts(case.count, len(inputs)))]
    for rank in ranks:
        block = slice(ends[rank], ends[rank + 1])
        if case.collective == "all_reduce":
            outputs[rank].copy_(reduced(inputs, case.redop))
        elif case.collective in ("all_gather", "all_gatherv"):
            outputs[rank].copy_(torch.cat(list(inputs)))
        elif case.collective in ("reduce_scatter", "reduce_scatterv"):
            outputs[rank].copy_(reduced([x[block] for x in inputs], case.redop))
        elif case.collective == "all_to_all":
            outputs[rank].copy_(torch.cat([x[block] for x in inputs]))
        elif case.collective == "broadcast":
            outputs[rank].copy_(inputs[root])
        elif case.collective == "send_recv":
            outputs[rank].copy_(inputs[rank - 1])
        elif case.collective == "gather" and rank == root:
            outputs[rank].copy_(torch.cat(list(inputs)))
        elif case.collective == "reduce" and rank == root:
            outputs[rank].copy_(reduced(inputs, case.redop))


def reduced(inputs: Sequence[Tensor], redop: RedOp | None) -> Tensor:
    """Return the exact reduction, rounded once."""
    dtype = inputs[0].dtype
    stack = torch.stack([x.to(torch.float64 if dtype.is_floating_point else torch.int64) for x in inputs])
    if redop is RedOp.SUM:
        return stack.sum(0).to(dtype)
    if redop is RedOp.PROD:
        return stack.prod(0).to(dtype)
    if redop is RedOp.MIN:
        return stack.amin(0).to(dtype)
    if redop is RedOp.MAX:
        return stack.amax(0).to(dtype)
    total = stack.sum(0)
    return (total / len(inputs) if dtype.is_floating_point else total // len(inputs)).to(dtype)
