"""Several ranks in processes of their own, over Gloo; each leaves what it found as JSON."""

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
    """What ``module`` reports on each rank, by rank. A rank that fails, or does not end, fails the test."""
    # Held here, so that nobody else can take the port before a rank does.
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
    """A rank's whole life: join the others, run ``body`` with the world's group, leave what it returns."""
    # One thread a rank: with more, many ranks on few cores wait for each other.
    torch.set_num_threads(1)
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=world_size, timeout=timedelta(seconds=PATIENCE_S)
    )
    group = dist.group.WORLD
    assert group is not None
    found = body(group)
    Path(sys.argv[1], f"report-{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    dist.destroy_process_group()
