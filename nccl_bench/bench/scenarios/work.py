"""The protocol of the work around the collective, and ``IsolatedWork``, which is no work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.buffers import BufferValues, CaseBuffers
from nccl_bench.bench.timing import Clock
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.communicators.protocol import Operation
from nccl_bench.config.run import RunConfig
from nccl_bench.plan.scenarios import WorkPlan
from nccl_bench.ranks.control import Control
from nccl_bench.records.scenario_times import PartTimes
from nccl_bench.streams.base import Streams

if TYPE_CHECKING:
    from nccl_bench.bench.context import CaseContext
    from nccl_bench.bench.schedule import Schedule

# A function that gets the result of a call; ``None`` if nobody needs the result.
Keep = Callable[[object], object] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The surroundings from which the work of a case is made."""

    config: RunConfig  # the configuration of the run
    case: Case  # the case
    plan: WorkPlan  # the memory and the number of operations of the work
    own_set: Control  # the ranks of this process set
    streams: Streams  # the streams of this rank's device
    clock: Clock  # the clock for batches on the caller's stream, which is the current stream
    side: Any = None  # the caller's second stream; None if the scenario needs none
    # Arm -> an arm of the same kind with a second communicator; empty if the scenario needs none.
    second_arms: Mapping[str, Arm] = field(default_factory=dict)
    products: dict[str, list[int]] = field(default_factory=dict)  # label of a case -> the product chosen for it


class Work(Protocol):
    """The work around the collective of one case, on one rank, for all arms."""

    plan: WorkPlan  # the memory and the number of operations of the work
    clock: Clock  # the clock for batches
    values: BufferValues | None = None  # the contents of the buffers; None for the usual values
    late_rank: int | None = None  # the rank of the process set that comes late to each call; None if no rank does

    def prepare(self, context: CaseContext, names: Sequence[str]) -> None:
        """Choose the work that depends on the time of the collective, for the arms ``names``. Collective.

        Also make what cannot be made while a graph is captured.
        """

    def calls(self, arm: Arm, case: Case, buffers: CaseBuffers, operations: int, keep: Keep = None) -> list[Operation]:
        """Return ``operations`` calls, bound to the current stream: each is one collective with the work around it.

        One sample is the time of a batch divided by the number of its calls. Each call returns what the collective
        returns, and passes it to ``keep``. The calls must be made in their order. After the last call of a list, the
        list can begin again.
        """

    def measure_parts(
        self, context: CaseContext, names: Sequence[str], timing: Timing, schedule: Schedule
    ) -> dict[str, PartTimes]:
        """Return the times of the parts of each arm's calls; no times if the calls have no such parts. Collective."""
        return {}


class IsolatedWork(Work):
    """No work: a call is the collective. The calls rotate through the slots of the buffers."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.plan = surroundings.plan
        self.clock = surroundings.clock

    def calls(self, arm: Arm, case: Case, buffers: CaseBuffers, operations: int, keep: Keep = None) -> list[Operation]:
        bound = bound_calls(arm, case, buffers, min(operations, buffers.slots), keep)
        return [bound[index % len(bound)] for index in range(operations)]


def bound_calls(arm: Arm, case: Case, buffers: CaseBuffers, slots: int, keep: Keep) -> Sequence[Operation]:
    """Return the collective of each of the first ``slots`` slots, as ``arm`` calls and orders it."""
    pairs: list[tuple[Tensor, Tensor | None]] = [buffers.pair(slot, case.placement) for slot in range(slots)]
    return [arm.bind(case, *pair, keep) for pair in pairs]
