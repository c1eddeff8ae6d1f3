"""Memory of NCCL, registered with communicators on two GPUs: results are right and all memory is given back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.memory import slots_memory
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.memory import Memory
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.run import Register
from nccl_bench.records.schema import Registration
from nccl_bench.transports.device import open_device
from tests.support.one_rank_run import in_one_process_set

ARMS = ("stream-free", "transport", "dedicated-stream", "coordinator", "torch")
SIZE = 256 * 1024**2
CYCLES = 6


def skip_if_nccl_is_too_old(how: Register) -> None:
    """Skip the calling test if torch's NCCL cannot register memory in this way."""
    needed = {Register.LOCAL: (2, 19), Register.WINDOW: (2, 27)}.get(how, (0, 0))
    version = torch.cuda.nccl.version()
    if version[:2] < needed:
        pytest.skip(f"needs NCCL {'.'.join(map(str, needed))}, torch has {'.'.join(map(str, version))}")


def sweep(out: Path, how: Register) -> tuple[list[dict[str, Any]], dict[str, str]]:
    command = [
        *(sys.executable, "-m", "nccl_bench", "run", "--out", str(out), "--format", "json", "--register", how),
        *("--arms", ",".join(ARMS), "--collective", "all", "--placement", "all", "--sizes", "48K,4M"),
        *("--nproc", "2", "--rounds", "5", "--max-rounds", "5", "-n", "4", "-w", "1", "--timing", "eager,graph"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows: list[dict[str, Any]] = json.loads(done.stdout)["summary"]
    worker = json.loads((out / "run.json").read_text(encoding="utf-8"))["worker"]
    return rows, worker["registered"]


@pytest.mark.gpus(2)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", Register)
def test_results_are_right_in_any_memory(how: Register, tmp_path: Path) -> None:
    skip_if_nccl_is_too_old(how)
    rows, registrations = sweep(tmp_path / "run", how)
    assert {(row["status"], row["wrong"]) for row in rows} == {("ok", 0)}
    seen = {(row["arm"], row["collective"], row["placement"], row["timing"]) for row in rows}
    ours = {(name, *cell[1:]) for name in ARMS[:3] for cell in seen if cell[0] == "stream-free"}
    assert ours <= seen
    assert {cell[1:] for cell in ours} == {
        (name, placement, timing)
        for name, row in COLLECTIVES.items()
        for placement in row.placements
        for timing in (Timing.EAGER, Timing.GRAPH)
    }
    if how is Register.NONE:
        assert registrations == {}
    else:
        assert registrations.pop("torch") == Registration.ABSENT
        assert set(registrations) == {*ARMS[:4], "dedicated-stream:twin"}
        # A machine may have no windows. Then no communicator has them.
        assert len(set(registrations.values())) == 1
        assert Registration.ABSENT not in registrations.values()


def cycles(rank: int, store: str, how: Register) -> None:
    """Take, use and give back memory several times, as one of two ranks."""
    dist.init_process_group("gloo", store=dist.FileStore(store, 2), rank=rank, world_size=2)
    group = dist.group.WORLD
    assert group is not None
    device = open_device("cuda", rank)
    arms = {name: Arm(name, group, device) for name in ("stream-free", "dedicated-stream")}
    in_turn = in_one_process_set(arms, group)
    free = []
    for value in range(1, CYCLES + 1):
        with slots_memory(Memory.NCCL, how, SIZE, device, in_turn, list(arms)) as (memory, registrations):
            assert memory is not None
            for arm in arms.values():
                memory.fill_(value)
                device.streams.synchronize()
                arm.communicator.all_reduce(memory)
                device.streams.synchronize()
                assert bool((memory == 2 * value).all())
            assert Registration.ABSENT not in registrations.values()
        free.append(device.streams.memory()[0])
    # The first cycle loads and sets up what is needed only once.
    assert free[-1] > free[0] - SIZE
    for arm in arms.values():
        arm.close()
    dist.destroy_process_group()


@pytest.mark.gpus(2)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", [Register.LOCAL, Register.WINDOW])
def test_registered_memory_is_given_back(how: Register, tmp_path: Path) -> None:
    skip_if_nccl_is_too_old(how)
    torch.multiprocessing.spawn(cycles, args=(str(tmp_path / "store"), how), nprocs=2)  # type: ignore[no-untyped-call]
