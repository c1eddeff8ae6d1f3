"""A whole run by the runner itself, with this process as its only rank."""

from __future__ import annotations

import time

import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.budget import Budget
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.runner import Runner
from nccl_bench.config.run import RunConfig
from nccl_bench.plan.cases import make_plan
from nccl_bench.ranks.control import Control
from nccl_bench.ranks.joining import Ranks
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.schema import Line
from nccl_bench.transports.device import Device


def run_on_one_rank(
    config: RunConfig, group: dist.ProcessGroup, device: Device, progress: Progress
) -> tuple[Runner, list[Line]]:
    """What ``config`` asks for, on ``device``: the runner, whose arms are closed, and its lines."""
    members = {name: Arm(name, group, device) for name in config.measured_arms}
    lines: list[Line] = []
    runner = Runner(
        config=config,
        plan=make_plan(config, 1),
        device=device,
        ranks=Ranks(all_ranks=Control(group), own_set=Control(group), set_index=0, first_ranks=(0,)),
        arms=members,
        process_set_of=dict.fromkeys(members, 0),
        align=lambda: None,
        progress=progress,
        append=lines.append,
        budget=Budget(config.max_seconds, time.monotonic()),
        launch_memory=LaunchMemory(device.streams),
        note=lambda: None,
        ranks_per_memory=1,
    )
    try:
        runner.run()
    finally:
        for arm in members.values():
            arm.close()
    return runner, lines
