"""The sensors of real GPUs: they are recorded, belong to the right GPU, and another user's process is reported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from nccl_bench.records.nvml import open_nvml

pytestmark = pytest.mark.alone

# The process of the tests itself never opens a GPU: the runs below would take it for another user's process.
HOLD = """
import sys, torch
held = torch.zeros(1, device=sys.argv[1])
print(torch.cuda.get_device_properties(held.device).uuid, flush=True)
sys.stdin.read()
"""
READ = """
import torch
from nccl_bench.records.nvml import open_nvml
from nccl_bench.streams.cuda import CudaStreams
for index in range(torch.cuda.device_count()):
    streams = CudaStreams(index)
    reading = streams.sensors().read()
    assert 0 < (reading.sm_clock_mhz or 0) <= 5000
    assert 0 < (reading.temperature_c or 0) < 110
    assert open_nvml().gpu(f"GPU-{streams.describe()['uuid']}") is not None
    print("read")
"""


@contextmanager
def another_process(device: str) -> Iterator[tuple[int, str]]:
    """Start a process that has ``device`` open. Yield its id and the UUID of the GPU."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, device], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        uuid = process.stdout.readline().strip()
        assert uuid
        yield process.pid, uuid
    finally:
        process.communicate(timeout=60)


def run(out: Path, *options: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows and the `run.json` of a short run on two GPUs."""
    command = [sys.executable, "-m", "nccl_bench", "run", "--out", str(out), "--format", "json", "--nproc", "2"]
    command += ["--sizes", "1K,64M", "--rounds", "3", "--max-rounds", "3", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    content = json.loads(done.stdout)
    return content["summary"], content["runs"][0]["meta"]


@pytest.mark.timeout(100)
def test_the_driver_and_cuda_mean_the_same_gpu() -> None:
    done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["read"] * torch.cuda.device_count()


@pytest.mark.gpus(2)
@pytest.mark.timeout(300)
def test_every_time_has_the_state_of_the_gpus_and_process_sets_are_no_strangers(tmp_path: Path) -> None:
    # The user arm with a variable and the twin run in process sets of their own on the same GPUs.
    rows, meta = run(tmp_path / "run", "--arm", "ring=stream-free,NCCL_ALGO=Ring", "--arms", "stream-free")
    assert len(meta["worker"]["process_sets"]) == 3
    (highest,) = {gpu["sm_clock_max_mhz"] for gpu in meta["environment"]["gpus"][:2]}
    for row in rows:
        assert 0 < row["sm_clock_mhz"] <= highest
        assert row["memory_clock_mhz"] > 0
        assert 0 < row["temperature_c"] < 110
        assert row["power_w"] > 0
        assert "other_process" not in row


@pytest.mark.gpus(2)
@pytest.mark.timeout(300)
def test_a_process_of_somebody_else_is_recorded_with_its_gpu(tmp_path: Path) -> None:
    nvml = open_nvml()
    with another_process("cuda:1") as (process, uuid):
        listed = nvml.ask("nvmlDeviceGetComputeRunningProcesses", nvml.gpu(f"GPU-{uuid}")) or ()
        if process not in [each.pid for each in listed]:
            pytest.skip(f"the driver lists {[each.pid for each in listed]} and not process {process} of this machine")
        rows, _ = run(tmp_path / "run")
        assert {(row["other_process"], row["other_process_rank"]) for row in rows} == {(process, 1)}
        report = [sys.executable, "-m", "nccl_bench", "report", str(tmp_path / "run"), "--width", "500"]
        text = subprocess.run(report, capture_output=True, text=True, timeout=60, check=True).stdout
        assert f"process {process} on the GPU of rank 1" in text
