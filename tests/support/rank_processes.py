"""Start several ranks, each in its own process over Gloo, and collect the results that they write as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

ROOT = Path(__file__).parents[2]
PATIENCE_S = 100


def run_ranks(module: str, world_size: int, path: Path) -> list[Any]:
    """Run ``module`` on every rank and return the results by rank. Fail if a rank fails or does not end."""
    # This process holds the port, so that no other program can take it before a rank connects.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes = []
    for rank in range(world_size):
        environment = {
            **os.environ,
            "RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "CUDA_VISIBLE_DEVICES": "",
        }
        with (path / f"log-{rank}").open("w", encoding="utf-8") as log:
            command = [sys.executable, "-m", module, str(path)]
            processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
    try:
        codes = [process.wait(PATIENCE_S) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    logs = [(path / f"log-{rank}").read_text(encoding="utf-8") for rank in range(world_size)]
    assert codes == [0] * world_size, "\n".join(logs)
    return [json.loads((path / f"report-{rank}.json").read_text(encoding="utf-8")) for rank in range(world_size)]


def run_as_rank(body: Callable[[dist.ProcessGroup], object]) -> None:
    """Join the other ranks, run ``body`` with the group of all ranks, and write its result."""
    # One thread a rank: with more threads, many ranks on few cores wait for each other.
    torch.set_num_threads(1)
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=world_size, timeout=timedelta(seconds=PATIENCE_S)
    )
    group = dist.group.WORLD
    assert group is not None
    result = body(group)
    Path(sys.argv[1], f"report-{rank}.json").write_text(json.dumps(result), encoding="utf-8")
    dist.destroy_process_group()
