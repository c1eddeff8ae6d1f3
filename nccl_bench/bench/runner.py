"""The loop over the cases of a run. Every rank does the same steps in the same order."""

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from nccl_bench.analysis.statistics import FAMILYWISE_ERROR
from nccl_bench.arms.arm import Arm
from nccl_bench.bench.budget import Budget
from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.bench.case_run import run_case
from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.known_hangs import hang_in_graphs
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.memory import slots_memory
from nccl_bench.bench.memory_use import case_for_memory, measure_stranded
from nccl_bench.bench.profile import profile_case
from nccl_bench.bench.record import Record
from nccl_bench.bench.scenarios.registry import make_work
from nccl_bench.bench.scenarios.work import Surroundings, Work
from nccl_bench.bench.timing import Clock
from nccl_bench.bench.turns import ArmsInTurn
from nccl_bench.bench.watch import Watch
from nccl_bench.catalog.memory import Memory, Register
from nccl_bench.catalog.scenarios import SCENARIOS, has_deadlocks
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.communicators.protocol import Operation
from nccl_bench.config.run import CallerStream, RunConfig
from nccl_bench.plan.cases import Plan, PlannedCase
from nccl_bench.plan.memory import MEMORY_SHARE, Arena, plan_arena
from nccl_bench.plan.time import deadline_s
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.meta import RecordedMemory, RecordedProfile
from nccl_bench.records.schema import Skipped
from nccl_bench.transports.device import Device, refusal
from nccl_bench.transports.nccl_log import NcclLog

_Result = TypeVar("_Result")
# Whether an arm can end in a deadlock -> why no arm is left for a case.
_NO_ARM = {False: "no arm supports the case", True: "no arm supports the case without a deadlock"}


@dataclass(kw_only=True)
class Runner:
    """The work of one rank in a run. Construction is collective."""

    config: RunConfig  # the configuration of rank 0
    plan: Plan  # the cases, each with the arms that support it
    device: Device  # the device of this rank
    arms: ArmsInTurn  # the arms of this process set, and the names of all other arms
    # Arm -> an arm of the same kind with a second communicator; empty if the scenario needs none.
    second_arms: Mapping[str, Arm] = field(default_factory=dict)
    align: Operation  # the function that enqueues the aligning collective
    progress: Progress  # the position that this rank reports to the launcher
    record: Record  # the facts and lines of the run; rank 0 writes them
    budget: Budget  # the time limit for rounds beyond the configured minimum
    started: float = 0.0  # when the run started, as a reading of ``time.monotonic``
    later_timings: int = 0  # the number of timings in all cases of all later launches, which share the budget
    launch_memory: LaunchMemory  # the search for the best launch memory of this rank's streams and graphs
    ranks_per_memory: int  # the number of processes that share the memory of this rank's device
    log: NcclLog | None = None  # the log of NCCL; None without NCCL
    expandable_segments: bool = False  # whether torch's allocator uses expandable segments in any process
    _caller: Any = field(init=False)
    _side: Any = field(init=False)
    _clock: Clock = field(init=False)
    _watch: Watch = field(init=False)
    _ended: list[PlannedCase] = field(default_factory=list, init=False)  # the cases that were measured

    def __post_init__(self) -> None:
        """Choose the streams, make the clock and begin to watch the GPUs."""
        self._caller, self._side = self.arms.exclusively(self._choose_streams)
        self._clock = Clock(self.device.streams, self._caller, self.align, self.started)
        self._watch = Watch(self.device.streams.sensors(), self.arms.ranks)

    def _choose_streams(self) -> tuple[Any, Any]:
        """Choose the caller's stream, then the private streams of this process's arms.

        Return the caller's stream, and the caller's second stream if the scenario has one.
        """
        if self.config.caller_stream is CallerStream.DEFAULT:
            caller = self.device.streams.default_stream()
        else:
            caller = self.launch_memory.callers_stream()
        self.launch_memory.settle([*self.arms.own.values(), *self.second_arms.values()], caller)
        has_second = SCENARIOS[self.config.scenario].second_stream
        return caller, self.launch_memory.second_stream(caller) if has_second else None

    def run(self, indices: Sequence[int] | None = None) -> None:
        """Measure the plan's cases at ``indices``, in this order; ``None`` means all cases."""
        gc.collect()
        gc.freeze()
        indices = range(len(self.plan.cases)) if indices is None else indices
        timings_left = sum(len(self.plan.cases[index].timings) for index in indices) + self.later_timings
        for index in indices:
            planned = self.plan.cases[index]
            limit_s = deadline_s(self.config, planned)
            self.progress.update(case_index=index, arm="", phase="memory", deadline_s=limit_s)
            self.budget.begin_case(limit_s, len(planned.timings), timings_left)
            timings_left -= len(planned.timings)
            gc.collect()
            arena = self._arena(planned)
            if isinstance(arena, str):
                self.record.append([Skipped(case=planned.case, reason=arena)])
            else:
                self._work_on(planned, arena, partial(run_case, record=self.record))
                self._ended.append(planned)
                self.record.update(launch_us=self.launch_memory.describe())
            self.record.end_case(planned.case)

    def measure_memory(self) -> None:
        """Record the memory that calls of each arm strand in torch's allocator, in one of the measured cases."""
        planned = case_for_memory(self._ended)
        is_measured = SCENARIOS[self.config.scenario].measures_stranded_memory
        if planned is None or not is_measured or self.device.streams.stranded_bytes() is None:
            return
        after_all = len(self.plan.cases)
        self.progress.update(case_index=after_all, arm="", phase="memory", deadline_s=self.config.timeout_s)
        gc.collect()
        arena = self._arena(planned)
        stranded: dict[str, RecordedMemory] = (
            {name: {"stranded_absent": arena} for name in planned.arms}
            if isinstance(arena, str)
            else self._work_on(planned, arena, measure_stranded)
        )
        for name, of_arm in stranded.items():
            self.record.memory.setdefault(name, {}).update(of_arm)
        self.record.update()

    def profile(self, directory: Path | None) -> None:
        """Profile some cases of the plan, also cases that earlier ranks measured. Record the files in ``directory``."""
        profiles: list[RecordedProfile] = []
        for planned in self.plan.smallest_and_largest():
            # This position is after all cases, so no new ranks start after a hang.
            after_all = len(self.plan.cases)
            self.progress.update(case_index=after_all, arm="", phase="profile", deadline_s=self.config.timeout_s)
            gc.collect()
            arena = self._arena(planned)
            if not isinstance(arena, str):
                profiles += self._work_on(planned, arena, partial(profile_case, run_directory=directory))
        self.record.update(profiles=profiles)

    def _arena(self, planned: PlannedCase) -> Arena | str:
        """Return an arena for ``planned`` that fits on every rank, or why the case cannot be measured. Collective."""
        # Process sets can have different libraries, and a rank of any set can refuse the case.
        reason = self._refusal(planned) if planned.arms else _NO_ARM[has_deadlocks(planned.case)]
        refused = self.arms.ranks.all_ranks.first_message(reason)
        return self._fit(planned) if refused is None else refused[1]

    def _refusal(self, planned: PlannedCase) -> str | None:
        """Return why ``planned`` cannot be measured; ``None`` if it can."""
        case = planned.case
        reason = refusal(self.device, case)
        captures = any(TIMINGS[timing].captured for timing in planned.timings)
        if reason is None and captures and self.expandable_segments and self.config.memory is not Memory.NCCL:
            reason = hang_in_graphs(case, self.arms.ranks.own_set.world_size, self.device.transport.version)
        return reason

    def _work_on(
        self,
        planned: PlannedCase,
        arena: Arena,
        work_on: Callable[[CaseContext, Sequence[str], Sequence[Timing]], _Result],
    ) -> _Result:
        """Return what ``work_on`` returns for ``planned``, its arms and its timings."""
        # The buffers are local to this method, so they are freed before the next case asks how much memory is free.
        config, case, streams = self.config, planned.case, self.device.streams
        with ExitStack() as memory, streams.stream(self._caller):
            work = make_work(
                Surroundings(
                    config=config,
                    case=case,
                    plan=planned.work,
                    own_set=self.arms.ranks.own_set,
                    streams=streams,
                    clock=self._clock,
                    side=self._side,
                    second_arms=self.second_arms,
                    products=self.record.products,
                )
            )
            context = CaseContext(
                config=config,
                case=case,
                placements={**planned.placements},
                buffers=self._allocate(planned, memory, work, arena, config.register),
                arms=self.arms,
                streams=streams,
                work=work,
                error=self._error(),
                watch=self._watch,
                budget=self.budget,
                launch_memory=self.launch_memory,
                free_bytes=self._free_bytes,
                allocate=partial(self._allocate, planned, memory, work),
                log=self.log,
            )
            return work_on(context, planned.arms, planned.timings)

    def _allocate(
        self, planned: PlannedCase, memory: ExitStack, work: Work, arena: Arena, register: Register
    ) -> CaseBuffers:
        """Return new buffers for ``planned``. The exit of ``memory`` frees what torch does not free."""
        own_set, device = self.arms.ranks.own_set, self.device
        slots, registrations = memory.enter_context(
            slots_memory(self.config.memory, register, arena.slots_bytes, device, self.arms, planned.arms)
        )
        self.record.registrations |= registrations
        return CaseBuffers(
            planned.case,
            arena,
            own_set.rank,
            own_set.world_size,
            device.streams.device,
            slots,
            planned.placements.values(),
            work.values,
        )

    def _free_bytes(self) -> int:
        """Return the bytes of memory that are free for a rank: the minimum over all ranks. Collective."""
        return self.arms.ranks.all_ranks.minimum(self.device.streams.memory()[0] // self.ranks_per_memory)

    def _error(self) -> float:
        """Return the error probability at which the interval of one launch must be narrow enough.

        With one launch, it is the error probability of the strictest step of Holm's method, and no verdict needs a
        smaller probability. With several launches, the verdicts come from all launches together.
        """
        comparisons = self.plan.comparisons(self.config.baseline) if self.config.launches == 1 else 1
        return FAMILYWISE_ERROR / max(1, comparisons)

    def _fit(self, planned: PlannedCase) -> Arena | str:
        """Return an arena that fits on every rank, or why none fits."""
        world_size, free_bytes = self.arms.ranks.own_set.world_size, self._free_bytes()
        arena = plan_arena(self.config, planned.case, world_size, free_bytes, planned.placements.values())
        if arena is not None:
            return arena
        unlimited = plan_arena(self.config, planned.case, world_size, 2**62, planned.placements.values())
        assert unlimited is not None
        needed_bytes = replace(unlimited, slots=1).total_bytes
        options = SCENARIOS[planned.case.scenario].size_options
        return (
            f"the buffers need {needed_bytes / 1024**3:.2f} GiB on each rank, but may use only {MEMORY_SHARE:.0%} of "
            f"the {free_bytes / 1024**3:.2f} GiB that are free: use smaller {options}"
        )
