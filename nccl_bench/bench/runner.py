"""Walks cases and arms: checks, pilots, rounds, records. Every rank does the same, in the same order."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor

from nccl_bench.analysis.statistics import FAMILYWISE_ERROR
from nccl_bench.arms.arm import Arm
from nccl_bench.bench.budget import Budget
from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.bench.case_run import CaseRun, Paths
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.memory import registered
from nccl_bench.bench.stopping import Stopping
from nccl_bench.bench.timing import Clock, Operation
from nccl_bench.bench.turns import Turns
from nccl_bench.config.run import CallerStream, Register, RunConfig
from nccl_bench.plan.cases import Plan, PlannedCase
from nccl_bench.plan.memory import MEMORY_SHARE, Arena, plan_arena
from nccl_bench.plan.time import deadline_s
from nccl_bench.ranks.joining import Ranks
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.schema import Line, Registration, Skipped
from nccl_bench.transports.device import Device, refusal


class Runner:
    """One rank of a run. ``append`` gets each line as measured, on rank 0 only.

    ``arms`` are those of this process, ``process_set_of`` has for each arm of the run the index of its process set.
    ``paths`` is what the arms were seen to run, ``registrations`` what came of the registering of their memory, by arm;
    ``note`` is called when there is more of them.
    """

    def __init__(
        self,
        *,
        config: RunConfig,
        plan: Plan,
        device: Device,
        ranks: Ranks,
        arms: Mapping[str, Arm],
        process_set_of: Mapping[str, int],
        align: Operation,
        progress: Progress,
        append: Callable[[Line], None],
        budget: Budget,
        launch_memory: LaunchMemory,
        note: Callable[[], None],
        ranks_per_memory: int,
    ) -> None:
        self._config = config
        self._plan = plan
        self._device = device
        self._streams = device.streams
        self._ranks = ranks
        self._control = ranks.all_ranks
        self._turns = Turns(ranks, process_set_of)
        self._arms = arms
        self._progress = progress
        self._append = append
        self._budget = budget
        self._stopping = Stopping(
            baseline=config.baseline,
            fewest=config.rounds,
            most=config.max_rounds,
            threshold=config.threshold,
            # The level of Holm's strictest step: no verdict of the run needs a narrower interval.
            error=FAMILYWISE_ERROR / max(1, plan.comparisons(config.baseline)),
        )
        # On the CPU the ranks of a node share its memory; on GPUs each has its own.
        self._ranks_per_memory = ranks_per_memory
        default = config.caller_stream is CallerStream.DEFAULT
        self._launch_memory = launch_memory
        self._note = note
        for mine in ranks.take_turns():
            if mine:
                self._caller = self._streams.default_stream() if default else launch_memory.callers_stream()
                launch_memory.settle(arms.values(), self._caller)
        self.paths: Paths = {}
        self.registrations: dict[str, Registration] = {}
        self._clock = Clock(self._streams, self._caller, align)

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
            nobody = "" if planned.arms else "no arm supports it"
            reason = self._control.broadcast(nobody or refusal(self._device, planned.case) or "")
            if reason:
                self._record([Skipped(case=planned.case, reason=reason)])
            elif arena := self._fit(planned):
                known = len(self.paths) + len(self.registrations)
                self._measure(index, planned, arena)
                if len(self.paths) + len(self.registrations) > known:
                    self._note()

    def _measure(self, index: int, planned: PlannedCase, arena: Arena) -> None:
        """One case; its buffers are gone when this returns, before the next case looks at the memory."""
        with self._memory(index, planned, arena) as memory, self._streams.stream(self._caller):
            CaseRun(
                config=self._config,
                case=planned.case,
                case_index=index,
                timings=self._plan.timings,
                arena=arena,
                buffers=CaseBuffers(
                    planned.case,
                    arena,
                    self._ranks.own_set.rank,
                    self._ranks.own_set.world_size,
                    self._streams.device,
                    memory,
                ),
                names=planned.arms,
                arms={name: self._arms[name] for name in planned.arms if name in self._arms},
                turns=self._turns,
                ranks=self._ranks,
                streams=self._streams,
                clock=self._clock,
                stopping=self._stopping,
                budget=self._budget,
                launch_memory=self._launch_memory,
                progress=self._progress,
                append=self._record,
                paths=self.paths,
            ).run()

    @contextmanager
    def _memory(self, index: int, planned: PlannedCase, arena: Arena) -> Iterator[Tensor | None]:
        """What the slots of a case lie in, registered with the arms of this process; ``None`` for torch's memory."""

        def at(name: str, phase: str) -> None:
            self._progress.update(case_index=index, arm=name, phase=phase, deadline_s=None)

        def in_turn() -> Iterator[tuple[str, Arm]]:
            for name in planned.arms:
                at(name, "registration")
                if self._turns.take(name):
                    yield name, self._arms[name]
                # A step more than a rank that did not get here, which is then the one that a hang is put down to.
                at(name, "registration, waiting")

        how = self._config.register
        if how is Register.NONE:
            yield None
            return
        with registered(how, arena.slots_bytes, self._device, in_turn()) as (memory, found):
            for of_process_set in self._ranks.gather_from_sets(found):
                self.registrations |= of_process_set
            yield memory

    def _fit(self, planned: PlannedCase) -> Arena | None:
        """The arena that fits on every rank, or ``None`` with the case recorded as skipped."""
        free = self._control.minimum(self._streams.memory()[0] // self._ranks_per_memory)
        arena = plan_arena(self._config, planned.case, self._ranks.own_set.world_size, free)
        if arena is None:
            one_slot = plan_arena(self._config, planned.case, self._ranks.own_set.world_size, 2**62)
            assert one_slot is not None
            needed = replace(one_slot, slots=1).total_bytes
            self._record([Skipped(case=planned.case, reason=_does_not_fit(needed, free))])
        return arena

    def _record(self, lines: Sequence[Line]) -> None:
        if self._control.rank == 0:
            for line in lines:
                self._append(line)


def _does_not_fit(needed: int, free: int) -> str:
    def gib(size: int) -> str:
        return f"{size / 1024**3:.2f} GiB"

    return f"its buffers need {gib(needed)} a rank, and of {gib(free)} free they may take {MEMORY_SHARE:.0%}"
