"""The walk over the cases of a run. Every rank does the same steps in the same order."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor

from nccl_bench.analysis.statistics import FAMILYWISE_ERROR
from nccl_bench.arms.arm import Arm
from nccl_bench.bench.budget import Budget
from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.bench.case_run import run_case
from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.memory import registered
from nccl_bench.bench.record import Record
from nccl_bench.bench.stopping import Stopping
from nccl_bench.bench.timing import Clock, Operation
from nccl_bench.bench.turns import ArmsInTurn
from nccl_bench.config.run import CallerStream, Register, RunConfig
from nccl_bench.plan.cases import Plan, PlannedCase
from nccl_bench.plan.memory import MEMORY_SHARE, Arena, plan_arena
from nccl_bench.plan.time import deadline_s
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.schema import Skipped
from nccl_bench.transports.device import Device, refusal


class Runner:
    """One rank of a run. Construction is collective.

    ``align`` enqueues the collective that aligns the ranks. ``ranks_per_memory`` is the number of ranks that share the
    memory of this rank's device.
    """

    def __init__(
        self,
        *,
        config: RunConfig,
        plan: Plan,
        device: Device,
        arms: ArmsInTurn,
        align: Operation,
        progress: Progress,
        record: Record,
        budget: Budget,
        launch_memory: LaunchMemory,
        ranks_per_memory: int,
    ) -> None:
        self._config = config
        self._plan = plan
        self._device = device
        self._streams = device.streams
        self._arms = arms
        self._control = arms.ranks.all_ranks
        self._world_size = arms.ranks.own_set.world_size
        self._progress = progress
        self._record = record
        self._budget = budget
        self._launch_memory = launch_memory
        self._ranks_per_memory = ranks_per_memory
        self._stopping = Stopping(
            baseline=config.baseline,
            fewest=config.rounds,
            most=config.max_rounds,
            threshold=config.threshold,
            # The level of Holm's strictest step: no verdict of the run needs a narrower interval.
            error=FAMILYWISE_ERROR / max(1, plan.comparisons(config.baseline)),
        )
        self._caller = arms.exclusively(self._choose_streams)
        self._clock = Clock(self._streams, self._caller, align)

    def _choose_streams(self) -> Any:
        """Return the caller's stream, and give the arms of this process the private streams that suit it."""
        if self._config.caller_stream is CallerStream.DEFAULT:
            caller = self._streams.default_stream()
        else:
            caller = self._launch_memory.callers_stream()
        self._launch_memory.settle(self._arms.own.values(), caller)
        return caller

    def run(self, first_case: int = 0) -> None:
        """Measure the plan's cases from ``first_case`` on."""
        gc.collect()
        gc.freeze()
        for index, planned in enumerate(self._plan.cases[first_case:], start=first_case):
            timings = len(self._plan.timings)
            limit_s = deadline_s(self._config, planned, timings)
            self._progress.update(case_index=index, arm="", phase="memory", deadline_s=limit_s)
            self._budget.begin_case(limit_s, timings, timings * (len(self._plan.cases) - index))
            gc.collect()
            reason = refusal(self._device, planned.case) if planned.arms else "no arm supports it"
            reason = self._control.broadcast(reason)
            if reason:
                self._record.append([Skipped(case=planned.case, reason=reason)])
            elif arena := self._fit(planned):
                self._measure(planned, arena)
                self._record.update(launch_us=self._launch_memory.describe())

    def _measure(self, planned: PlannedCase, arena: Arena) -> None:
        # The buffers are gone when this method returns, before the next case looks at the memory.
        with self._slots_memory(planned, arena) as memory, self._streams.stream(self._caller):
            here = self._arms.ranks.own_set
            buffers = CaseBuffers(planned.case, arena, here.rank, here.world_size, self._streams.device, memory)
            context = CaseContext(
                config=self._config,
                case=planned.case,
                arena=arena,
                buffers=buffers,
                arms=self._arms,
                streams=self._streams,
                clock=self._clock,
            )
            run_case(
                context,
                planned.arms,
                self._plan.timings,
                stopping=self._stopping,
                budget=self._budget,
                launch_memory=self._launch_memory,
                record=self._record,
            )

    @contextmanager
    def _slots_memory(self, planned: PlannedCase, arena: Arena) -> Iterator[Tensor | None]:
        """Yield the memory of a case's slots, registered with the arms; ``None`` for torch's memory."""
        how = self._config.register
        if how is Register.NONE:
            yield None
            return

        def arms_in_turn() -> Iterator[tuple[str, Arm]]:
            for name in self._arms.visit(planned.arms, "registration"):
                yield name, self._arms[name]
                # Count one step more than a rank that is stuck here, so that the stuck rank is blamed for a hang.
                self._arms.report(name, "registration, waiting")

        with registered(how, arena.slots_bytes, self._device, arms_in_turn()) as (memory, registrations):
            self._record.registrations |= self._arms.merged(registrations)
            yield memory

    def _fit(self, planned: PlannedCase) -> Arena | None:
        """Return the arena that fits on every rank, or ``None`` after recording the case as skipped."""
        free_bytes = self._control.minimum(self._streams.memory()[0] // self._ranks_per_memory)
        arena = plan_arena(self._config, planned.case, self._world_size, free_bytes)
        if arena is None:
            one_slot = plan_arena(self._config, planned.case, self._world_size, 2**62)
            assert one_slot is not None
            needed_bytes = replace(one_slot, slots=1).total_bytes
            reason = (
                f"its buffers need {_gib(needed_bytes)} a rank, and of {_gib(free_bytes)} free they may take "
                f"{MEMORY_SHARE:.0%}"
            )
            self._record.append([Skipped(case=planned.case, reason=reason)])
        return arena


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**3:.2f} GiB"
