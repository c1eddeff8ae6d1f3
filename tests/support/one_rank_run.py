"""A whole run of the benchmark's runner in this process, which is its only rank."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.budget import Budget
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.record import Record
from nccl_bench.bench.runner import Runner
from nccl_bench.bench.turns import ArmsInTurn
from nccl_bench.config.run import RunConfig
from nccl_bench.plan.cases import make_plan
from nccl_bench.plan.process_sets import ProcessSet
from nccl_bench.ranks.control import Control
from nccl_bench.ranks.joining import Ranks
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.schema import CaseEnd, Entry, Line, Resume
from nccl_bench.records.store import RunStore
from nccl_bench.transports.device import Device
from nccl_bench.transports.nccl_log import NcclLog


class MemoryStore:
    """A store that keeps what it gets."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.worker: object = None

    def append(self, *lines: Entry) -> None:
        self.lines.extend(line for line in lines if not isinstance(line, CaseEnd | Resume))

    def sync(self) -> None: ...

    def update(self, **changes: object) -> None:
        self.worker = changes["worker"]


def in_one_process_set(arms: dict[str, Arm], group: dist.ProcessGroup, progress: Progress | None = None) -> ArmsInTurn:
    """Return ``arms`` as the only process set of a run."""
    control = Control(group)
    ranks = Ranks(all_ranks=control, own_set=control, set_index=0, first_ranks=(0,))
    process_set = ProcessSet(arms=tuple(arms), variables={}, reason=None)
    return ArmsInTurn(arms, [process_set], ranks, progress or Progress(None, 0, 0))


def fork_without_join(operation: Any, streams: Any, private: Any, fork: Any, _join: Any) -> Callable[[], None]:
    """Return what ``fork_join`` returns, but without the join."""

    def ordered() -> None:
        fork.record(streams.current_stream())
        fork.wait(private)
        private.submit(time.sleep, 0.05)  # a device that takes its time
        operation()

    return ordered


def run_on_one_rank(
    config: RunConfig,
    group: dist.ProcessGroup,
    device: Device,
    progress: Progress,
    *,
    planned_ranks: int = 1,
    log: NcclLog | None = None,
    expandable_segments: bool = False,
) -> tuple[Record, list[Line]]:
    """Run ``config`` on ``device``, with the plan for ``planned_ranks`` ranks; return the record and its lines."""
    arms = {name: Arm(name, group, device, user_arms=config.user_arms) for name in config.measured_arms}
    plan = make_plan(config, planned_ranks)
    able = {
        name: [arm.able(planned.case, planned.able.get(name, ())) for planned in plan.cases]
        for name, arm in arms.items()
    }
    store = MemoryStore()
    record = Record(cast(RunStore, store), {}, {})
    try:
        runner = Runner(
            config=config,
            plan=plan.only(config.baseline, able),
            device=device,
            arms=in_one_process_set(arms, group, progress),
            align=lambda: None,
            progress=progress,
            record=record,
            budget=Budget(config.max_seconds, time.monotonic()),
            launch_memory=LaunchMemory(device.streams),
            ranks_per_memory=1,
            log=log,
            expandable_segments=expandable_segments,
        )
        runner.run()
        runner.measure_memory()
    finally:
        for arm in arms.values():
            arm.close()
    return record, store.lines
