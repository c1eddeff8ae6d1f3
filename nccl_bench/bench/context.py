"""The objects that all steps of a case use on one rank, such as buffers, arms and the clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from nccl_bench.bench.budget import Budget
from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.scenarios.work import Work
from nccl_bench.bench.timing import Clock
from nccl_bench.bench.turns import ArmsInTurn
from nccl_bench.bench.watch import Watch
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.memory import Register
from nccl_bench.communicators.protocol import Operation
from nccl_bench.config.run import RunConfig
from nccl_bench.plan.memory import Arena, plan_arena
from nccl_bench.ranks.control import Control
from nccl_bench.streams.base import Streams
from nccl_bench.transports.nccl_log import NcclLog


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseContext:
    """The objects that all steps of a case use. The steps run while the caller's stream is the current stream."""

    config: RunConfig  # the configuration of the run
    case: Case  # the case that is measured
    # Arm -> its placement; `try_first_calls` corrects a placement that turns out to be wrong.
    placements: dict[str, Placement]
    buffers: CaseBuffers  # the case's tensors on this rank
    arms: ArmsInTurn  # every arm of the run
    streams: Streams  # the streams of this rank's device
    work: Work  # the work around the collective
    watch: Watch  # the watch over the GPUs during each timing
    budget: Budget  # the time limit for rounds beyond the configured minimum
    launch_memory: LaunchMemory  # the search for the best launch memory of this rank's graphs
    log: NcclLog | None  # the log of NCCL; None without NCCL
    error: float  # the allowed error probability of each interval that decides on the number of rounds
    free_bytes: Callable[[], int]  # returns the bytes of free memory for each rank; collective
    # Returns more buffers of the case, in new memory. Collective unless `Register` is `NONE`.
    allocate: Callable[[Arena, Register], CaseBuffers]

    @property
    def clock(self) -> Clock:
        """The clock for batches on the caller's stream."""
        return self.work.clock

    @property
    def control(self) -> Control:
        """Collectives on the host, between the ranks of all process sets."""
        return self.arms.ranks.all_ranks

    @property
    def uneven_ranks(self) -> int:
        """The number of ranks if the collective is an uneven form; 0 otherwise."""
        return self.case.row.uneven_ranks(self.arms.ranks.own_set.world_size)

    def case_of(self, arm: str) -> Case:
        """Return the case in the placement of ``arm``."""
        return replace(self.case, placement=self.placements[arm])

    def placement_shown_by(self, arm: str, slot: int, result: object) -> Placement | None:
        """Return the placement of a call of ``arm`` on a slot, as the ``result`` of the call shows it.

        Return ``None`` if the call has returned nothing, because its placement is then unknown. Raises ``SetupError``
        if ``result`` cannot be a result of the case.
        """
        expected = self.buffers.expected
        return self.arms[arm].communicator.examine(self.case_of(arm), result, self.buffers.input(slot), expected)

    def calls(self, arm: str, operations: int, keep: Callable[[object], object] | None = None) -> list[Operation]:
        """Return ``operations`` calls of ``arm`` with the work around them, bound to the current stream.

        The calls rotate through the slots. If ``keep`` is given, each call passes to ``keep`` what its collective
        returns.
        """
        return self.work.calls(self.arms[arm], self.case_of(arm), self.buffers, operations, keep)

    def call_each(self, arm: str, operations: int, keep: Callable[[object], object] | None = None) -> None:
        """Make ``operations`` calls of ``arm``, bound to the current stream. A capture has another current stream."""
        for call in self.calls(arm, operations, keep):
            _result = call()  # as in an engine, a result lives until the next call has returned

    def with_new_buffers(self) -> CaseContext:
        """Return this context with new buffers, or unchanged if memory is short. Collective.

        Keep this context: as long as its buffers exist, the new buffers cannot get their memory.
        """
        world_size = self.arms.ranks.own_set.world_size
        arena = plan_arena(self.config, self.case, world_size, self.free_bytes(), self.placements.values())
        return self if arena is None else replace(self, buffers=self.allocate(arena, self.config.register))

    def restore(self, operations: int) -> None:
        """Write the inputs of ``operations`` calls again if calls overwrite their inputs, as an in-place sum does."""
        if self.buffers.written_by_calls:
            return
        if self.case.row.reduces and Placement.IN_PLACE in self.placements.values():
            self.buffers.restore(operations)
