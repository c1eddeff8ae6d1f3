"""Runs of the benchmark's loop on the CPU, in which operations of arms are replaced."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.arms.arm import Arm, Operation
from nccl_bench.bench.budget import Budget
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.record import Record
from nccl_bench.bench.runner import Runner
from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.routes import Mode
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.config.run import resolve
from nccl_bench.plan.cases import make_plan
from nccl_bench.ranks.control import Control
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.store import RunStore
from nccl_bench.transports.device import open_device
from tests.support.one_rank_run import MemoryStore, in_one_process_set

ARMS = ("stream-free", "dedicated-stream", "torch")
MEASURED = (*ARMS, twin_of("dedicated-stream"))
# How long a call of a slow arm keeps the host busy.
SLOW_CALL_S = 0.002


class RecordedProgress(Progress):
    """A progress that keeps every position it was given."""

    def __init__(self, rank: int) -> None:
        super().__init__(None, rank, rank)
        self.visits: list[tuple[int, str, str]] = []

    def update(self, *, case_index: int, arm: str, phase: str, deadline_s: float | None) -> None:
        self.visits.append((case_index, arm, phase))
        super().update(case_index=case_index, arm=arm, phase=phase, deadline_s=deadline_s)


class ChangedArm(Arm):
    """An arm whose operations are replaced: ``change`` gets the operation and its output and returns the new one."""

    def __init__(self, arm: Arm, change: Callable[[Operation, Tensor], Operation]) -> None:
        self.name, self.spec, self.communicator = arm.name, arm.spec, arm.communicator
        self._arm, self._change = arm, change

    def bind(self, case: Case, x: Tensor, y: Tensor | None, keep: Any = None) -> Operation:
        assert y is not None
        return self._change(self._arm.bind(case, x, y), y)

    def paths(self, case: Case, x: Tensor, y: Tensor | None) -> dict[Mode, str]:
        return self._arm.paths(case, x, y)


class Bench:
    """This rank's part of the set-up that all runs share."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group, self.control = group, Control(group)
        self.rank = self.control.rank
        self.device = device = open_device("cpu", 0)
        self.streams = device.streams
        aligner = StreamFreeCommunicator(group, device)
        tiny = torch.zeros(1)
        self.align = lambda: aligner.all_reduce(tiny)
        names = (*MEASURED, twin_of("stream-free"), "torch-async")
        self.arms = {name: Arm(name, group, device) for name in names}
        self._progress = RecordedProgress(self.rank)

    @property
    def phase(self) -> str:
        """The phase of the current run."""
        return self._progress.position.phase

    def run(
        self,
        *,
        changed: Mapping[str, Callable[[Operation, Tensor], Operation]] | None = None,
        streams: Any = None,
        first_case: int = 0,
        ranks_per_memory: int = 1,
        late: bool = False,
        **layer: object,
    ) -> dict[str, Any]:
        """Run a few small cases; return their lines and the positions of this rank.

        ``late`` uses up the run's time before it starts, on this rank only.
        """
        base = {"sizes": "1K", "rounds": 3, "ops_per_batch": 8, "warmup": 1, "timings": "eager,gated,enqueue"}
        rounds = layer.get("rounds", base["rounds"])
        config = resolve("cpu", {**base, "arms": ",".join(ARMS), "max_rounds": rounds, **layer})
        arms = {
            name: ChangedArm(arm, changed[name]) if changed and name in changed else arm
            for name, arm in self.arms.items()
            if name in config.measured_arms
        }
        store = MemoryStore()
        plan = make_plan(config, self.control.world_size)
        progress = self._progress = RecordedProgress(self.rank)
        Runner(
            config=config,
            plan=plan,
            device=replace(self.device, streams=streams or self.streams),
            arms=in_one_process_set(arms, self.group, progress),
            align=self.align,
            progress=progress,
            record=Record(cast(RunStore, store), {}, {}),
            budget=Budget(1e-9 if late else 1e9, time.monotonic()),
            launch_memory=LaunchMemory(streams or self.streams),
            ranks_per_memory=ranks_per_memory,
        ).run(range(first_case, len(plan.cases)))
        return {"lines": [line.to_json() for line in store.lines], "visits": progress.visits}
