"""Step times of two sides: of one launch each with a shared arm, of several launches, and of different workloads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.compared_runs import analyse_arms, analyse_sides
from nccl_bench.analysis.judging import OpenReason
from nccl_bench.analysis.loading import LoadedRun
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.step_time import StepComparison
from nccl_bench.config.limits import Limits
from nccl_bench.config.workload import Workload
from nccl_bench.errors import ExitCode
from nccl_bench.records.run import Run
from tests.support.workloads import BASE, TWIN, WORKLOAD, Times, lines_of, message, steady, without, workload_run

BASE_US = (20.0, 10.0, 50.0)


def loaded(run: Run, name: str) -> LoadedRun:
    return LoadedRun(
        path=Path(name),
        comparable=ComparableRun.of(run, name),
        meta=run.meta,
        run=run,
        exit_code=ExitCode.OK,
        left_out={},
        warnings=(),
    )


def of(times_us: Times, name: str = "run", workload: Workload = WORKLOAD) -> LoadedRun:
    return loaded(workload_run(times_us, workload=workload), name)


def compared(before: Sequence[LoadedRun], after: Sequence[LoadedRun], **options: object) -> Analysis:
    fields = {"arms": None, "shared_arm": None, "limits": Limits(default=0.02), "allow_mismatch": False, **options}
    return analyse_sides(before, after, **fields)  # type: ignore[arg-type]


def step_of(analysis: Analysis) -> StepComparison:
    assert analysis.step is not None
    (comparison,) = analysis.step.comparisons
    return comparison


def test_one_launch_on_each_side_is_compared_relative_to_the_shared_arm() -> None:
    slow_machine = tuple(1.5 * us for us in BASE_US)
    analysis = compared([of(steady(BASE_US, 1.0), "a")], [of(steady(slow_machine, 0.8), "b")])
    comparison = step_of(analysis)
    assert comparison.ratio == pytest.approx(0.8, rel=2e-3)
    # The own time became longer, so the machine alone can explain the change.
    assert (comparison.verdict, comparison.reason) == (Verdict.INCONCLUSIVE, OpenReason.SHARED_ARM_MOVED)
    (line,) = analysis.headline.lines[:1]
    assert line.text == (
        "torch (after) takes 0.540 ms a step where torch (before) takes 0.450 (-20 %, -20.2 to -19.8, relative to "
        "dedicated-stream): the machine alone may have changed it"
    )
    steady_machine = compared([of(steady(BASE_US, 1.0), "a")], [of(steady(BASE_US, 0.8), "b")])
    assert step_of(steady_machine).verdict is Verdict.FASTER


def test_several_runs_on_each_side_are_compared_by_their_step_times() -> None:
    sides = [
        [of(steady(BASE_US, factor * ratio), f"{factor}-{ratio}") for ratio in (0.995, 1.0, 1.005, 1.0)]
        for factor in (1.0, 0.8)
    ]
    step = compared(*sides).step
    assert step is not None
    same, faster = step.comparisons
    assert (same.candidate.arm, same.verdict) == (BASE, Verdict.EQUIVALENT)
    assert (faster.candidate.arm, faster.verdict, faster.noise_floor) == ("torch", Verdict.FASTER, None)
    assert faster.ratio == pytest.approx(0.8, rel=1e-3)


def test_runs_of_several_launches_are_compared_by_the_step_times_of_their_launches() -> None:
    def launches(factor: float, name: str) -> LoadedRun:
        lines = [
            line
            for launch, ratio in enumerate((0.99, 1.0, 1.01, 1.0, 1.0), start=1)
            for line in lines_of(WORKLOAD, steady(BASE_US, factor * ratio), (BASE, "torch", TWIN), launch=launch)
        ]
        run = replace(workload_run(steady(BASE_US)), lines=lines)  # type: ignore[arg-type]
        run.meta["config"]["launches"] = 5
        return loaded(run, name)

    comparison = step_of(compared([launches(1.0, "a")], [launches(0.8, "b")]))
    assert comparison.verdict is Verdict.FASTER
    assert comparison.ratio == pytest.approx(0.8, rel=1e-3)


def test_a_message_that_one_side_lacks_leaves_no_step_time() -> None:
    after = of(without(steady(BASE_US, 0.5), 1, "torch"), "b")
    comparison = step_of(compared([of(steady(BASE_US), "a")], [after]))
    assert (comparison.ratio, comparison.verdict) == (None, None)
    assert [each.message.name for each in comparison.missing] == ["4 KiB all-reduces in graphs"]


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (
            Workload(messages=(message(4096, 8),)),
            "No step time: the runs measured different workloads: give runs of one workload.",
        ),
        (None, "No step time: only some of the runs measured a workload."),
    ],
)
def test_runs_of_different_workloads_have_no_step_time_and_say_so(other: Workload | None, text: str) -> None:
    after = workload_run(steady(BASE_US), workload=other or WORKLOAD)
    if other is None:
        after.meta["config"].pop("workload")
    analysis = compared([of(steady(BASE_US), "a")], [loaded(after, "b")])
    assert analysis.step is None
    assert text in analysis.notes


def test_two_arms_of_one_run_are_compared_by_their_step_times() -> None:
    analysis = analyse_arms(of(steady(BASE_US, 0.8)), ("torch", BASE), None)
    comparison = step_of(analysis)
    assert (comparison.baseline.arm, comparison.candidate.arm) == ("torch", BASE)
    assert comparison.ratio == pytest.approx(1.25, rel=2e-3)
    assert comparison.verdict is Verdict.SLOWER
