"""Runs of several launches: pairs within a launch, one verdict for each cell, and one row for each cell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Basis
from nccl_bench.analysis.joined_launches import join_launches
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.two_sides import compare_sides
from nccl_bench.catalog.arms import twin_of
from nccl_bench.config.limits import Limits
from nccl_bench.records.run import Run
from nccl_bench.records.schema import BuffersRegistered, Line, Samples, Skipped, Status
from tests.support.synthetic_runs import case, crash, gpus, imported, per_iteration, run, samples, wrong

BASE = "dedicated-stream"
ARMS = [BASE, "stream-free"]


def launches(ratios: list[float], rounds: int = 12, size: int = 1024, speeds: list[float] | None = None) -> list[Line]:
    """Return the samples of two arms and the twin, in as many launches as there are ``ratios`` of stream-free.

    Within a launch all rounds have its ratio. The machine's speed changes from launch to launch.
    """
    rng = np.random.default_rng(size)
    lines: list[Line] = []
    for number, ratio in enumerate(ratios, start=1):
        base = 10 * (speeds or [1.0 + number] * number)[number - 1] * np.exp(rng.normal(0, 0.02, rounds))
        for arm, factor in ((BASE, 1.0), ("stream-free", ratio), (twin_of(BASE), 1.0)):
            times = tuple((base * factor).tolist())
            lines.append(samples(arm, samples_us=times, launch=number, case=case(size)))
    return lines


def analysed(lines: list[Line], number: int = 3) -> Analysis:
    return Analysis.of(run(lines, arms=ARMS, launches=number))


def test_a_ratio_compares_rounds_of_one_launch_and_the_mean_of_the_launches_counts() -> None:
    analysis = analysed(launches([1.10, 1.12, 1.11]))
    (comparison,) = analysis.comparisons
    assert analysis.basis is Basis.LAUNCHES
    assert comparison.ratio == pytest.approx((1.10 * 1.12 * 1.11) ** (1 / 3))
    assert comparison.communicator_variance == pytest.approx(np.std(np.log([1.10, 1.12, 1.11]), ddof=1))
    assert (comparison.launches, comparison.verdict) == (3, Verdict.SLOWER)
    # Student's interval with 2 degrees of freedom contains communicator variance, so there is no noise floor.
    assert comparison.interval is not None
    assert comparison.interval.low == pytest.approx(comparison.ratio * np.exp(-4.3027 * 0.0090092 / 3**0.5), rel=1e-4)
    assert (comparison.noise_floor, comparison.below_floor) == (None, False)


def test_a_difference_that_is_not_there_in_every_launch_is_inconclusive() -> None:
    (steady,) = analysed(launches([1.10, 1.10, 1.10])).comparisons
    (comparison,) = analysed(launches([1.10, 1.0, 1.10])).comparisons
    assert (steady.verdict, comparison.verdict) == (Verdict.SLOWER, Verdict.INCONCLUSIVE)
    # One launch alone would be sure of it.
    (alone,) = analysed(launches([1.10])).comparisons
    assert (alone.verdict, alone.launches, alone.communicator_variance) == (Verdict.SLOWER, 1, None)


def test_a_twin_that_is_slower_in_every_launch_is_a_warning() -> None:
    lines = launches([1.10, 1.11, 1.12])
    slow = [
        replace(line, samples_us=tuple(1.05 * time_us for time_us in line.samples_us))
        if isinstance(line, Samples) and line.arm == twin_of(BASE)
        else line
        for line in lines
    ]
    (warning,) = (text for text in analysed(slow).warnings if "twin" in text)
    assert warning.startswith(
        f"The twin of {BASE}, the same communicator made again, is slower in 1 cell, most gated all_reduce bfloat16 "
        "sum in-place 1K: 1.05x."
    )
    assert not [text for text in analysed(lines).warnings if "twin" in text]


def test_a_cell_that_some_launches_lack_is_judged_by_the_others() -> None:
    sizes = [8 * 2**number for number in range(12)]
    lines = [line for size in sizes for line in launches([1.10, 1.11, 1.12], size=size)]
    lost = [line for line in lines if not (isinstance(line, Samples) and line.case.size_bytes == 8 and line.launch > 1)]
    comparisons = analysed(lost).comparisons
    assert [each.launches for each in comparisons] == [1, *[3] * 11]
    # Its variance is that of the other sizes.
    assert [each.verdict for each in comparisons] == [Verdict.SLOWER] * 12
    assert comparisons[0].interval is not None
    # One other size is too few to learn from.
    (alone, *_) = analysed([*lost[:3], *launches([1.10, 1.11, 1.12], size=1 << 20)]).comparisons
    assert (alone.verdict, alone.interval, alone.launches) == (Verdict.INCONCLUSIVE, None, 1)


def test_an_arm_that_is_wrong_in_one_launch_has_no_verdict() -> None:
    lines = launches([1.1, 1.1])
    lines.append(wrong(arm="stream-free", launch=3))
    analysis = analysed(lines)
    assert analysis.comparisons == ()
    (row,) = (row for row in analysis.rows if row.arm == "stream-free")
    assert (row.status, row.wrong) == (Status.WRONG, 12)
    assert analysis.failures[0].startswith("WRONG: wrong results in 1 cell of stream-free")


def test_a_row_has_the_rounds_of_all_launches() -> None:
    analysis = analysed(launches([1.10, 1.11, 1.12], rounds=9))
    base, arm, twin = analysis.rows
    assert [(row.arm, row.launches, row.rounds) for row in analysis.rows] == [
        (name, 3, 27) for name in (BASE, "stream-free", twin_of(BASE))
    ]
    (comparison,) = analysis.comparisons
    assert (arm.ratio, arm.verdict) == (pytest.approx(comparison.ratio), Verdict.SLOWER)
    assert arm.communicator_variance == comparison.communicator_variance
    assert (base.ratio, base.communicator_variance, twin.ratio) == (None, None, pytest.approx(1.0))
    assert [row.launches for row in analysed(launches([1.1])).rows] == [1, 1, 1]


def test_joined_samples_have_the_worst_state_and_all_batches() -> None:
    first = samples(discarded=2, wrong=0, gpus=gpus(temperature_c=60), per_iteration=per_iteration(), late=0)
    percentiles = replace(per_iteration(), min_us=1.0, p50_us=13.22, cost_us=None)
    second = samples(
        samples_us=(9.0, 9.5),
        discarded=1,
        wrong=0,
        gpus=gpus(sm_clock_mhz=900, throttled_share=0.5, throttled_rank=1),
        per_iteration=percentiles,
        registered=BuffersRegistered.YES,
        launch=2,
    )
    made_up = run([first, second])
    (line,) = join_launches(made_up).lines
    assert isinstance(line, Samples)
    assert (line.rounds, line.samples_us) == ((0, 1, 2, 3, 4), (8.4, 8.3, 8.5, 9.0, 9.5))
    assert (line.discarded, line.wrong, line.late, line.registered) == (3, 0, 0, BuffersRegistered.YES)
    assert line.gpus == gpus(sm_clock_mhz=900, temperature_c=60, throttled_share=0.5, throttled_rank=1)
    assert line.per_iteration == replace(per_iteration(), operations=1800, min_us=1.0, p50_us=pytest.approx(12.22))
    once = run([first])
    assert join_launches(once) is once


def test_times_of_ranks_that_one_launch_lacks_are_left_out() -> None:
    (row,) = Analysis.of(run([samples(), imported(launch=2)])).rows
    assert (row.rounds, row.time_us, row.rank_spread_us) == (6, 8.4, None)


def test_a_case_that_every_launch_skips_is_listed_once_and_a_crash_names_its_launch() -> None:
    skipped: list[Line] = [Skipped(case=case(8), reason="too large", launch=number) for number in (1, 2, 3)]
    analysis = analysed([*launches([1.0, 1.0, 1.0]), *skipped, crash(launch=2)])
    assert [row.status for row in analysis.rows if row.size_bytes == 8] == ["skipped"]
    assert [text for text in analysis.not_measured if "too large" in text] == [f"{case(8).label}: skipped, too large"]
    (failure,) = analysis.failures
    assert failure.startswith(f"CRASH: launch 2, {case().label}, arm torch-async, rank 1 on node7: ")


def test_a_run_whose_only_lines_are_crashes_of_several_launches_has_a_report() -> None:
    crashed = run([crash(launch=1), crash(launch=2)], launches=2)
    assert join_launches(crashed) is crashed
    assert len(Analysis.of(crashed).failures) == 2


def test_the_title_counts_the_cases_of_all_launches() -> None:
    made_up = run(launches([1.0, 1.0]), arms=ARMS, launches=2)
    planned = Run(
        meta={**made_up.meta, "cases": 2},
        lines=made_up.lines,
        ended=frozenset({(case(), 1), (case(), 2), (case(8), 1)}),
    )
    analysis = Analysis.of(planned)
    assert analysis.title.endswith(", 3 of 4 cases in 2 launches")
    assert "1 of 4 cases in 2 launches" in analysis.not_measured


def test_launches_of_one_run_are_compared_like_several_runs() -> None:
    def side(factor: float) -> ComparableRun:
        lines = launches([factor * ratio for ratio in (1.00, 1.01, 0.99)], speeds=[1.0, 2.0, 1.5])
        return ComparableRun.of(run(lines, arms=ARMS), "run")

    result = compare_sides([side(1.0)], [side(1.2)], Limits(default=0.02))
    assert (result.basis, result.shared_arm) == (Basis.RUNS, BASE)
    assert result.reason == f"3 launches before and 3 launches after, relative to the arm {BASE}"
    (comparison,) = result.comparisons
    assert (comparison.ratio, comparison.verdict) == (pytest.approx(1.2), Verdict.SLOWER)
    assert comparison.communicator_variance == pytest.approx(0.01, rel=0.01)
