"""What NCCL ran is read from its log of calls that are not timed, on real GPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.gpus(2)
@pytest.mark.timeout(300)
def test_an_arm_with_another_protocol_runs_another_kernel(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "nccl_bench", "run", "--tuning", "--out", str(tmp_path / "run"), "--format", "json"),
        *("--arms", "stream-free,torch", "--arm", "simple=stream-free,NCCL_PROTO=Simple", "--sizes", "8K"),
        *("--nproc", "2", "--rounds", "6", "--max-rounds", "6", "-n", "4", "--timing", "eager,graph"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report: dict[str, Any] = json.loads(done.stdout)
    if absent := report["runs"][0]["meta"]["worker"]["log_absent"]:
        pytest.skip(absent)
    rows = [row for row in report["summary"] if not row["arm"].endswith(":twin")]
    assert all(row["algorithm"] and row["channels"] >= 1 for row in rows)
    protocols = {row["arm"]: row["protocol"] for row in rows}
    assert protocols["simple"] == "SIMPLE" != protocols["stream-free"] == protocols["torch"]
    (kernels,) = (fact["text"] for fact in report["headline"]["facts"] if fact["name"] == "Kernels")
    assert kernels.startswith("the arms ran different kernels")
