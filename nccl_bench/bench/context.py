"""The context of a case on one rank: its buffers, its arms, the clock, and the calls over its slots."""

from __future__ import annotations

from dataclasses import dataclass

from nccl_bench.bench.budget import Budget
from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.timing import Clock, Operation
from nccl_bench.bench.turns import ArmsInTurn
from nccl_bench.catalog.cases import Case
from nccl_bench.config.run import RunConfig
from nccl_bench.ranks.control import Control
from nccl_bench.streams.base import Streams


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseContext:
    """The things that every step of a case works with. They are used with the caller's stream current."""

    config: RunConfig  # of the run
    case: Case  # the case that is measured
    buffers: CaseBuffers  # its tensors on this rank
    arms: ArmsInTurn  # every arm of the run
    streams: Streams  # of this rank's device
    clock: Clock  # times batches on the caller's stream
    budget: Budget  # the time for more than the fewest rounds
    launch_memory: LaunchMemory  # the places of this rank's graphs
    error: float  # the error level of the intervals that decide on the number of rounds

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
        """Make ``operations`` calls of ``arm``, bound now: during a capture, the capturing stream is current."""
        for call in self.calls(arm, operations):
            call()

    def restore(self, operations: int) -> None:
        """Write the inputs of ``operations`` calls again if the calls change them, as in-place sums do."""
        if self.buffers.in_place and self.case.row.reduces:
            self.buffers.restore(operations)
