"""The output of the terminal, compared with the files in ``snapshots``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.compared_runs import analyse_sides
from nccl_bench.analysis.loading import load_run
from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Line, Resume, Samples
from nccl_bench.report import Detail
from nccl_bench.report.terminal import TerminalReport
from tests.support.snapshots import CheckSnapshot
from tests.support.synthetic_runs import ARMS, SIZES, case, crash, hang, meta, run, sweep, wrong

RESULTS = Path(__file__).parents[3] / "results"
WIDTHS = (80, 160)
FEW_SIZES = (8, 1024, 2**20)
# The median and eleven pairs around it. Each arm has them in another order, so that ratios vary by a few parts of 1000.
SPREAD = (0.0, *(sign * step for step in range(1, 12) for sign in (-1, 1)))


def measured(sizes: Iterable[int] = SIZES, **changes: Any) -> list[Line]:
    """Return samples of all arms and of the twin of the baseline, in 23 rounds."""
    lines: list[Line] = []
    for number, line in enumerate(sweep(sizes=sizes, **changes)):
        assert isinstance(line, Samples)
        center = line.samples_us[0]
        for arm in (line.arm, twin_of(line.arm)) if line.arm == "dedicated-stream" else (line.arm,):
            turn = number % 5 + (arm != line.arm)
            times = tuple(center * (1 + 0.0003 * step) for step in (*SPREAD[turn:], *SPREAD[:turn]))
            counts = {"rounds": tuple(range(len(times))), "slowest_rank": (2,) * len(times)}
            fastest = tuple(time * 0.99 for time in times)
            lines.append(replace(line, arm=arm, samples_us=times, fastest_rank_us=fastest, **counts))
    return lines


def incomplete(status: str, ended: int, resumes: tuple[Resume, ...] = ()) -> Run:
    """Return a run of three cases, of which the first ``ended`` were measured."""
    content = meta() | {"status": status, "cases": len(FEW_SIZES)}
    return Run(
        meta=content,
        lines=tuple(measured(FEW_SIZES[:ended])),
        ended=frozenset((case(size), 1) for size in FEW_SIZES[:ended]),
        resumes=resumes,
        directory=Path("results/made-up"),
    )


def rendered(of: Run, width: int, detail: Detail = Detail.USUAL) -> str:
    return TerminalReport(width=width, styled=False, detail=detail).render(Analysis.of(of))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_run_reads_as_its_snapshot(width: int, snapshot: CheckSnapshot) -> None:
    snapshot(f"run-{width}", rendered(run(measured()), width))


def test_a_quiet_run_is_the_headline_alone(snapshot: CheckSnapshot) -> None:
    snapshot("run-quiet-80", rendered(run(measured()), 80, Detail.QUIET))


@pytest.mark.parametrize("width", WIDTHS)
def test_wrong_results_a_hang_and_a_crash_read_as_their_snapshot(width: int, snapshot: CheckSnapshot) -> None:
    large = case(FEW_SIZES[-1])
    lines = [
        *measured(FEW_SIZES[:-1]),
        *measured(FEW_SIZES[-1:], arms=[arm for arm in ARMS if arm == "dedicated-stream"]),
        *(wrong(arm="stream-free", timing=timing, case=large) for timing in Timing),
        hang(arm="torch", case=large, case_index=2),
        crash(arm="torch-async", case=large, case_index=2),
    ]
    failed = run(lines)
    snapshot(f"failure-{width}", rendered(replace(failed, meta=failed.meta | {"status": "failed"}), width))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_killed_run_and_its_continuation_read_as_their_snapshots(width: int, snapshot: CheckSnapshot) -> None:
    command = ("nccl-bench", "run", "--resume", "results/made-up")
    resume = Resume(started="2026-10-01T03:00:00+00:00", command=command)
    snapshot(f"killed-{width}", rendered(incomplete("killed", 2), width))
    snapshot(f"resume-{width}", rendered(incomplete("complete", 3, (resume,)), width))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_of_two_runs_reads_as_its_snapshot(
    width: int, snapshot: CheckSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A title has the paths of the runs as they were given.
    monkeypatch.chdir(RESULTS.parent)
    sides = [[load_run(Path("results", name))] for name in ("h200-x2-before", "h200-x2-after")]
    analysis = analyse_sides(*sides, None, None, Limits(default=0.02), allow_mismatch=False)
    snapshot(f"comparison-{width}", TerminalReport(width=width, styled=False).render(analysis))
