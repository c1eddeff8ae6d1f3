"""An audit of a program on two ranks, through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.errors import ExitCode
from tests.support.command_line import ROOT

pytestmark = pytest.mark.timeout(120)

# A step of the program is right or has two races: nobody waits for the side stream, and nobody waits for the collective
# in time. Rank 1 can raise an exception.
_PROGRAM = """
import sys
import torch
import torch.distributed as dist
from nccl_bench.streams import cpu

dist.init_process_group("gloo")
side, x, output = cpu.Stream(), torch.ones(64), torch.ones(64)
for _ in range(3):
    with cpu.stream(side):
        side.submit(torch.Tensor.mul_, x, 3)  # queued
    if "racy" not in sys.argv:
        cpu.current_stream().wait_stream(side)
    x.mul_(2)  # reader
    side.synchronize()
    work = dist.all_reduce(output, async_op=True)  # collective
    if "racy" in sys.argv:
        output.add_(1)  # consumer
    work.wait()
print("done", *sys.argv[1:])
if "--fails" in sys.argv and dist.get_rank() == 1:
    raise ValueError("bad weights")
dist.destroy_process_group()
"""


_ALONE = (sys.executable, "-m", "nccl_bench", "audit", "--nproc", "2")
_UNDER_TORCHRUN = (
    *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    *("-m", "nccl_bench", "audit", "--to", "report.json"),
)


def _audit(directory: Path, *arguments: str, command: tuple[str, ...] = _ALONE) -> subprocess.CompletedProcess[str]:
    (directory / "serve.py").write_text(_PROGRAM)
    return subprocess.run(
        [*command, "--format", "json", *arguments],
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def _remarks(race: dict[str, Any]) -> tuple[str, str]:
    first, second = (race["race"][name]["lines"][0]["source"].rpartition("# ")[2] for name in ("first", "second"))
    return first, second


def test_planted_races_are_reported_once_for_both_ranks_also_if_the_program_fails(tmp_path: Path) -> None:
    ended = _audit(tmp_path, "serve.py", "racy", "--fails")
    report = json.loads(ended.stdout)
    assert ended.returncode == ExitCode.RACE, ended.stderr
    assert sorted(map(_remarks, report["races"])) == [("collective", "consumer"), ("queued", "reader")]
    assert [race["race"]["count"] for race in report["races"]] == [6, 6]
    assert all(race["race"]["ranks"] == [0, 1] for race in report["races"])
    assert report["failure"].startswith("The program ended with exit code 1 on rank 1: ValueError: bad weights at ")
    assert "[rank 0] done racy --fails" in ended.stderr


def test_a_right_program_has_no_race_and_its_calls_are_counted(tmp_path: Path) -> None:
    ended = _audit(tmp_path, "serve.py")
    report = json.loads(ended.stdout)
    assert (ended.returncode, report["outcome"], report["races"]) == (ExitCode.OK, "no race", []), ended.stderr
    assert {each["amount"]["collectives"]["c10d::allreduce_"] for each in report["ranks"]} == {3}
    assert [each["end"]["exit_code"] for each in report["ranks"]] == [0, 0]


def test_the_first_rank_under_torchrun_reports_for_all(tmp_path: Path) -> None:
    ended = _audit(tmp_path, "serve.py", "racy", "--fails", command=_UNDER_TORCHRUN)
    assert ended.returncode != 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert [race["race"]["ranks"] for race in report["races"]] == [[0, 1], [0, 1]], ended.stderr
    assert "ValueError: bad weights" in report["failure"]
    assert report["exit_code"] == ExitCode.RACE
