"""User arms that return their results: how they are compared and checked, with one rank in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.catalog.collectives import Placement
from nccl_bench.config.run import resolve
from nccl_bench.errors import SetupError
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.schema import Samples, Status
from nccl_bench.report import Detail
from nccl_bench.report.terminal import TerminalReport
from nccl_bench.transports.device import open_device
from tests.support.one_rank_run import run_on_one_rank
from tests.support.synthetic_runs import run

# With one rank, a sum is its input.
ARMS = """\
import torch

in_place = lambda tensor: None
returning = lambda tensor: tensor.clone()
unwritten = lambda tensor: torch.full_like(tensor, 7) if tensor.numel() == 64 else torch.empty_like(tensor)

class Cached:
    def __init__(self, group, device):
        self.results = {}

    def all_reduce(self, tensor):
        return self.results.setdefault(tensor.numel(), tensor.clone())


class Flipping:
    def __init__(self, group, device):
        self.calls = 0

    def all_reduce(self, tensor):
        self.calls += 1
        return tensor if self.calls % 3 else tensor.clone()
"""
IN_PLACE, RETURNED = Placement.IN_PLACE, Placement.RETURNED


@pytest.fixture
def measured(one_rank: dist.ProcessGroup, tmp_path: Path) -> Any:
    """Return a function that measures user arms, each given by the name of its target; it returns the samples."""
    (tmp_path / "arms.py").write_text(ARMS, encoding="utf-8")

    def measure(*targets: str, **options: Any) -> list[Samples]:
        user_arms = [{"name": target, "target": f"{tmp_path / 'arms.py'}:{target}"} for target in targets]
        few = {
            "sizes": "1K,16K",
            "dtypes": "float32",
            "rounds": 2,
            "max_rounds": 2,
            "timings": "eager,enqueue",
            "ops_per_batch": 8,
        }
        config = resolve("cpu", {**few, "arms": list(targets), "user_arms": user_arms, **options})
        _, lines = run_on_one_rank(config, one_rank, open_device("cpu", 0), Progress(None, 0, 0))
        return [line for line in lines if isinstance(line, Samples)]

    return measure


def placements(lines: list[Samples], arm: str) -> list[Placement]:
    return [line.placement for line in lines if line.arm == arm and line.timing == "eager"]


def test_one_case_compares_an_arm_in_place_with_one_that_returns_and_reports_name_both(measured: Any) -> None:
    lines = measured("in_place", "returning")
    assert (placements(lines, "in_place"), placements(lines, "returning")) == ([IN_PLACE] * 2, [RETURNED] * 2)
    assert {line.status for line in lines} == {Status.OK}
    assert len({line.case for line in lines}) == 2
    made_up = run(lines, arms=["in_place", "returning"], baseline="in_place")
    report = TerminalReport(width=100, styled=False, detail=Detail.FULL).render(Analysis.of(made_up))
    assert "returning (returned) against in_place (in-place), all_reduce float32 sum, " in report
    table = report[report.index("all_reduce float32 sum, ") :]
    assert table.count("(in-place)") >= 2
    assert table.count("(returned)") >= 2


def test_calls_of_one_case_that_differ_in_their_placement_are_refused(measured: Any) -> None:
    message = r"one call in all_reduce float32 sum 1024 B was .* and another one .* have the same placement"
    with pytest.raises(SetupError, match=message):
        measured("Flipping")


def test_the_check_catches_a_result_that_was_not_written_and_one_that_was_not_written_again(measured: Any) -> None:
    lines = measured("returning", "unwritten", "Cached", sizes="4K")
    wrong = {(line.arm, str(line.timing)) for line in lines if line.status is Status.WRONG}
    # The first result that the last arm returns is right. Later it returns the same tensor.
    assert wrong >= {("unwritten", "eager"), ("unwritten", "enqueue"), ("Cached", "eager"), ("Cached", "enqueue")}
    assert all(line.status is Status.OK for line in lines if line.arm == "returning")
