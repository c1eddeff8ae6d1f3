"""The allocators of the buffers, and registered buffers: results are right, and NCCL's log says what is registered."""

from __future__ import annotations

import json
import os
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
from nccl_bench.catalog.collectives import COLLECTIVES, Placement
from nccl_bench.catalog.memory import Memory, Register
from nccl_bench.catalog.timings import Timing
from nccl_bench.errors import ExitCode
from nccl_bench.records.schema import Registration
from nccl_bench.transports.device import open_device
from nccl_bench.transports.nccl_library import loaded_copies
from nccl_bench.transports.nccl_log import NcclLog
from nccl_bench.transports.nccl_registration import SUBSYSTEMS, has_call
from tests.support.one_rank_run import in_one_process_set

ARMS = ("stream-free", "transport", "dedicated-stream", "coordinator", "torch")
# So much that other processes on the GPU do not look like memory that was not given back.
SIZE = 4 * 1024**3
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
    cells = {cell[1:] for cell in seen if cell[0] == "stream-free"}
    assert cells == {
        (name, placement, timing)
        for name, row in COLLECTIVES.items()
        for placement in row.placements
        for timing in (Timing.EAGER, Timing.GRAPH)
        if placement is not Placement.RETURNED or name == "all_reduce"
    }
    given = {cell for cell in cells if cell[1] != Placement.RETURNED}
    assert seen >= {("dedicated-stream", *cell) for cell in cells} | {("transport", *cell) for cell in given}
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
    # The first cycle loads and sets up what is needed only once. Memory that is kept would be lost in each later cycle.
    assert free[-1] > free[0] - (CYCLES - 1) * SIZE / 2
    for arm in arms.values():
        arm.close()
    dist.destroy_process_group()


@pytest.mark.gpus(2)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", [Register.LOCAL, Register.WINDOW])
def test_registered_memory_is_given_back(how: Register, tmp_path: Path) -> None:
    skip_if_nccl_is_too_old(how)
    torch.multiprocessing.spawn(cycles, args=(str(tmp_path / "store"), how), nprocs=2)  # type: ignore[no-untyped-call]


def measured(
    out: Path, *options: str, ranks: int = 2, code: ExitCode = ExitCode.OK, **variables: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the lines and the ``worker`` of a run, which must end with ``code``."""
    command = [
        *(sys.executable, "-m", "nccl_bench", "run", "--out", str(out), "--nproc", str(ranks), "-n", "4", "-w", "1"),
        *("--rounds", "3", "--max-rounds", "3", "--placement", "out-of-place", "--timing", "eager,graph", *options),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=os.environ | variables)
    assert done.returncode == code, done.stderr[-2000:]
    lines = [json.loads(line) for line in (out / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    return lines, json.loads((out / "run.json").read_text(encoding="utf-8"))["worker"]


def registered(lines: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """Return for each arm and timing whether the buffers were registered, of a run with one case."""
    return {(line["arm"], line["timing"]): line["registered"] for line in lines if line["kind"] == "samples"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("memory", Memory)
def test_each_allocator_gives_right_results_on_one_gpu(memory: Memory, tmp_path: Path) -> None:
    options = ("--collective", "all_gather,all_to_all", "--sizes", "1M,64M", "--arms", "stream-free,torch")
    keeps = {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}
    lines, worker = measured(tmp_path / "run", *options, "--memory", memory, ranks=1, **keeps)
    samples = [line for line in lines if line["kind"] == "samples"]
    assert len(samples) == 2 * 2 * 3 * 2
    assert {line["wrong"] for line in samples} == {0}
    assert worker["expandable_segments"] == (memory is Memory.EXPANDABLE)
    # The log has the calls of every arm. With one rank NCCL sends nothing, so it registers nothing.
    if worker["log_absent"] is None:
        assert {line["registered"] for line in samples} == {"no"}


@pytest.mark.timeout(120)
def test_the_log_costs_no_later_call_and_no_descriptor() -> None:
    device = open_device("cuda", 0)
    log = NcclLog(loaded_copies())
    if log.reason_absent:
        pytest.skip(log.reason_absent)
    comm = device.transport.init_rank(1, device.transport.unique_id(), 0)
    tensor = torch.zeros(64, device=device.streams.device)
    float32 = device.transport.dtypes["float32"]

    def call() -> None:
        device.transport.all_gather(tensor.data_ptr(), tensor.data_ptr(), 64, float32, comm, 0)

    call()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with log.switched_on(SUBSYSTEMS) as new_lines:
            call()
            assert has_call(new_lines())
        call()
    assert len(os.listdir("/proc/self/fd")) == before
    device.transport.destroy(comm)


@pytest.mark.gpus(2)
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("options", "eager", "graph"),
    [
        ((), "no", "no"),
        (("--env", "NCCL_LEGACY_CUDA_REGISTER=1"), "no", "yes"),
        (("--memory", "nccl"), "no", "yes"),
        (("--register", "local"), "yes", "yes"),
    ],
)
def test_the_log_says_which_settings_register_a_large_gather(
    options: tuple[str, ...], eager: str, graph: str, tmp_path: Path
) -> None:
    case = ("--collective", "all_gather", "--sizes", "16M", "--arms", "stream-free")
    lines, worker = measured(tmp_path / "run", *case, *options)
    if worker["log_absent"]:
        pytest.skip(worker["log_absent"])
    assert registered(lines) == {("stream-free", "eager"): eager, ("stream-free", "graph"): graph}


@pytest.mark.gpus(2)
@pytest.mark.timeout(300)
def test_sends_on_expandable_segments_are_skipped_in_graphs_unless_nccl_registers_nothing(tmp_path: Path) -> None:
    case = ("--collective", "all_to_all", "--sizes", "16M", "--arms", "stream-free", "-T", "40")
    if (2, 23, 4) <= torch.cuda.nccl.version() < (2, 29, 2):
        expandable = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
        # Nothing else is measured in this run.
        lines, _ = measured(tmp_path / "skipped", *case, code=ExitCode.SETUP, **expandable)
        assert [line["kind"] for line in lines] == ["skipped", "end"]
    settings = ("--memory", "expandable", "--env", "NCCL_GRAPH_REGISTER=0")
    lines, worker = measured(tmp_path / "measured", *case, *settings)
    assert worker["expandable_segments"]
    assert {line["wrong"] for line in lines if line["kind"] == "samples"} == {0}
