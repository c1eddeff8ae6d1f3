"""The scenario ``contended``: two communicators in one program, such as tensor-parallel and data-parallel groups.

Each call is two collectives of equal size. The arm's communicator makes the first one, as in other scenarios. Another
communicator of the same kind makes the second one. Both communicators have all ranks, because then they contend most.
On one stream the second collective follows the first. On two streams they run at the same time, and NCCL can deadlock:
the GPU of one rank may have started only the first collective, and the GPU of another rank only the second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.scenarios.work import Keep, Surroundings, Work
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.communicators.protocol import Operation
from nccl_bench.plan.scenarios import SECOND_SLOTS


class ContendedWork(Work):
    """A collective of a second communicator, after the collective of each call or beside it."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.plan = surroundings.plan
        self.clock = surroundings.clock
        self._surroundings = surroundings
        self._second_arms: Mapping[str, Arm] = surroundings.second_arms
        # Placement -> the buffers of the second collective. The first calls of the arms show the placements.
        self._buffers: dict[Placement, CaseBuffers] = {}

    def prepare(self, context: CaseContext, names: Sequence[str]) -> None:
        """Make the buffers of the second collective."""
        for name in context.arms.present(names):
            self._buffers_of(context.case_of(name), context.buffers)

    def calls(self, arm: Arm, case: Case, buffers: CaseBuffers, operations: int, keep: Keep = None) -> list[Operation]:
        second, of_second = self._second_arms[arm.name], self._buffers_of(case, buffers)
        bound = [
            self._call(arm, second, case, buffers, of_second, slot, keep)
            for slot in range(min(operations, buffers.slots))
        ]
        return [bound[index % len(bound)] for index in range(operations)]

    def _call(
        self, arm: Arm, second: Arm, case: Case, buffers: CaseBuffers, of_second: CaseBuffers, slot: int, keep: Keep
    ) -> Operation:
        follow = second.bind(case, *of_second.pair(slot, case.placement))
        if case.streams == 1:
            first = arm.bind(case, *buffers.pair(slot, case.placement), keep)

            def one_after_the_other() -> object:
                result = first()
                follow()
                return result

            return one_after_the_other
        split = arm.split(case, *buffers.pair(slot, case.placement), self._surroundings.side, keep)
        fork, call, join = split.fork, split.call, split.join

        def at_once() -> object:
            fork()
            result = call()
            follow()
            join()
            return result

        return at_once

    def _buffers_of(self, case: Case, buffers: CaseBuffers) -> CaseBuffers:
        if case.placement not in self._buffers:
            own_set = self._surroundings.own_set
            arena = replace(buffers.arena, slots=min(SECOND_SLOTS, buffers.slots))
            device = self._surroundings.streams.device
            self._buffers[case.placement] = CaseBuffers(case, arena, own_set.rank, own_set.world_size, device)
        return self._buffers[case.placement]
