"""Start several ranks, each in its own process over Gloo, and collect the results that they write as JSON."""

from __future__ import annotations

import atexit
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.job import Agent, running_agent
from nccl_bench.launch.messages import LAUNCH_LOG
from nccl_bench.ranks.joining import join
from nccl_bench.ranks.process import default_group, destroy_group
from nccl_bench.ranks.spec import LaunchSpec

PATIENCE_S = 100


@cache
def shared_agent() -> Agent:
    """Return the agent of all tests in this process, which imports torch once. No test may end it."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(running_agent())


def run_ranks(module: str, world_size: int, path: Path) -> list[Any]:
    """Run ``module.main`` on every rank and return the results by rank. Fail if a rank fails or does not end."""
    job = shared_agent().start(LaunchConfig(nproc=world_size, worker=module), LaunchSpec(scratch=str(path)))
    give_up = time.monotonic() + PATIENCE_S
    try:
        while job.poll() is None and time.monotonic() < give_up:
            job.wait(1.0)
        code = job.poll()
    finally:
        job.stop()
    logs = [path / LAUNCH_LOG, *path.glob("logs/*/attempt_0/*/stderr.log")]
    assert code == 0, "\n".join(log.read_text(encoding="utf-8") for log in logs if log.exists())
    return [json.loads((path / f"report-{rank}.json").read_text(encoding="utf-8")) for rank in range(world_size)]


def run_as_rank(body: Callable[[dist.ProcessGroup], object], spec_file: str) -> None:
    """Join the other ranks, run ``body`` with the group of all ranks, and write its result beside ``spec_file``."""
    # One thread a rank: with more threads, many ranks on few cores wait for each other.
    torch.set_num_threads(1)
    join(process_sets=1)
    result = body(default_group())
    Path(spec_file).with_name(f"report-{dist.get_rank()}.json").write_text(json.dumps(result), encoding="utf-8")
    destroy_group(default_group())
