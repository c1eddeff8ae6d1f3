"""What every step of a case works with on one rank: buffers, arms, clock, and the calls over the case's slots."""

from __future__ import annotations

from dataclasses import dataclass

from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.bench.timing import Clock, Operation
from nccl_bench.bench.turns import ArmsInTurn
from nccl_bench.catalog.cases import Case
from nccl_bench.config.run import RunConfig
from nccl_bench.plan.memory import Arena
from nccl_bench.ranks.control import Control
from nccl_bench.streams.base import Streams


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseContext:
    """One case on one rank. It is used with the caller's stream current."""

    config: RunConfig
    case: Case
    arena: Arena  # the plan of the buffers
    buffers: CaseBuffers
    arms: ArmsInTurn
    streams: Streams
    clock: Clock

    @property
    def control(self) -> Control:
        """The control group of all process sets: what it decides holds for every rank."""
        return self.arms.ranks.all_ranks

    def calls(self, arm: str, operations: int) -> list[Operation]:
        """Return ``operations`` calls of ``arm`` over rotating slots, for the stream that is current."""
        slots = min(operations, self.buffers.slots)
        bound = [self.arms[arm].bind(self.case, *self.buffers.pair(slot)) for slot in range(slots)]
        return [bound[index % slots] for index in range(operations)]

    def call_each(self, arm: str, operations: int) -> None:
        """Make ``operations`` calls of ``arm`` once."""
        # Bind within this method: during a capture the current stream is the capturing one.
        for call in self.calls(arm, operations):
            call()

    def restore(self, operations: int) -> None:
        """Write the inputs of ``operations`` calls again where a call changes its input, as an in-place sum does."""
        if self.buffers.in_place and self.case.row.reduces:
            self.buffers.restore(operations)
