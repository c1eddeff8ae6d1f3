"""The kernels that NCCL ran, the parts of a call, and the memory of arms, on real GPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def report_of(tmp_path: Path, *options: str) -> dict[str, Any]:
    """Return the report of a run with 8 KiB on two GPUs."""
    command = [
        *(sys.executable, "-m", "nccl_bench", "run", "--out", str(tmp_path / "run"), "--format", "json"),
        *("--nproc", "2", "--sizes", "8K", "--rounds", "6", "--max-rounds", "6", "-n", "4", *options),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.gpus(2)
@pytest.mark.timeout(300)
def test_an_arm_with_another_protocol_runs_another_kernel(tmp_path: Path) -> None:
    arms = ("--arms", "stream-free,torch", "--arm", "simple=stream-free,NCCL_PROTO=Simple")
    report = report_of(tmp_path, "--tuning", "--timing", "eager,graph", *arms)
    if absent := report["runs"][0]["meta"]["worker"]["log_absent"]:
        pytest.skip(absent)
    rows = [row for row in report["summary"] if not row["arm"].endswith(":twin")]
    assert all(row["algorithm"] and row["channels"] >= 1 for row in rows)
    protocols = {row["arm"]: row["protocol"] for row in rows}
    assert protocols["simple"] == "SIMPLE" != protocols["stream-free"] == protocols["torch"]
    (kernels,) = (fact["text"] for fact in report["headline"]["facts"] if fact["name"] == "Kernels")
    assert kernels.startswith("the arms ran different kernels")


@pytest.mark.alone
@pytest.mark.gpus(2)
@pytest.mark.timeout(300)
def test_the_parts_of_a_call_add_up_to_most_of_it(tmp_path: Path) -> None:
    options = ("--cost-split", "--arms", "stream-free,dedicated-stream,torch", "--timing", "gated,graph,enqueue")
    report = report_of(tmp_path, *options)
    memory = report["runs"][0]["meta"]["worker"]["memory"]
    # Each communicator of NCCL has buffers of its own. Work on the caller's stream strands nothing.
    assert all(len(memory[arm]["device_bytes"]) == 2 for arm in ("stream-free", "dedicated-stream", "torch"))
    assert min(memory["stream-free"]["device_bytes"]) > 1024**2
    assert memory["stream-free"]["stranded_bytes"] == 0
    rows = {(row["arm"], row["timing"]): row for row in report["summary"]}
    for arm, parts in (("stream-free", ("stream", "call")), ("dedicated-stream", ("stream", "fork", "call", "join"))):
        row = rows[arm, "enqueue"]
        assert {f"{part}_us" for part in parts} == {"stream_us", "fork_us", "call_us", "join_us"} & {*row}
        # What is left is the arm's own Python, which is far less than NCCL's call.
        assert sum(row[f"{part}_us"] for part in parts) > row["time_us"] / 2
        assert rows[arm, "graph"]["graph_nodes"] >= 1
    assert not {"fork_us", "call_us"} & {*rows["torch", "enqueue"]}
