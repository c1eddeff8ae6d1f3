"""Changes relative to an arm that both sides share, and the noise floor of their twins."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from nccl_bench.analysis.bands import bands_of
from nccl_bench.analysis.cells import Cell, Rounds
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Basis, OpenReason
from nccl_bench.analysis.estimates import RelativeRatios
from nccl_bench.analysis.one_run import compare_arms
from nccl_bench.analysis.open_lines import open_answers
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Verdict, verdict_of
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits
from tests.support.compared_sides import BASE, SIZES, TWIN, compared, side, source, verdicts
from tests.support.synthetic_runs import case


def drifting(rng: np.random.Generator, drift: float, ratio: float, twin: float = 1.0) -> ComparableRun:
    """Return a run on a machine that is slower by ``drift``, and by up to a third more during the run."""
    machine = drift * np.linspace(1.0, 1.3, 25) * np.exp(rng.normal(0, 0.05, 25))
    times = {BASE: 10.0, TWIN: 10.0 * twin, "new": 20.0 * ratio}
    return source({arm: (us * machine * np.exp(rng.normal(0, 0.002, 25))).tolist() for arm, us in times.items()})


@pytest.mark.parametrize(
    ("ratio", "drift", "verdict"),
    [
        *((1.0, drift, Verdict.EQUIVALENT) for drift in (0.8, 1.0, 1.2)),
        *((ratio, drift, Verdict.SLOWER) for ratio, drift in ((1.06, 1.0), (1.06, 1.2), (1.4, 0.8))),
        *((ratio, drift, Verdict.FASTER) for ratio, drift in ((0.94, 0.8), (0.94, 1.0), (0.7, 1.2))),
        # The arm's own time changed in the other direction.
        (1.06, 0.65, Verdict.INCONCLUSIVE),
        (0.94, 1.5, Verdict.INCONCLUSIVE),
    ],
)
def test_a_drift_of_both_arms_cancels_out(ratio: float, drift: float, verdict: Verdict) -> None:
    rng = np.random.default_rng(23)
    all_verdicts = []
    for _ in range(20):
        result = compared([drifting(rng, 1.0, 1.0)], [drifting(rng, drift, ratio)])
        assert (result.basis, result.shared_arm) == (Basis.SHARED_ARM, BASE)
        assert [each.candidate for each in result.comparisons] == ["new"]
        all_verdicts += verdicts(result)
        # Times include the drift.
        assert result.comparisons[0].candidate_us / result.comparisons[0].baseline_us == pytest.approx(
            drift * ratio, rel=0.15
        )
    assert all_verdicts == [verdict] * 20


@pytest.mark.parametrize("truth", [1.0, 1.02, 1.05])
def test_relative_to_a_shared_arm_the_interval_covers_the_truth(truth: float) -> None:
    rng = np.random.default_rng(24)
    tries, missed, alarms = 400, 0, 0
    for number in range(tries):
        before, after = drifting(rng, 1.0, 1.0), drifting(rng, 1.2, truth)
        point = (case(8), Timing.GATED)
        ratios = RelativeRatios(before.ratios(point, "new", BASE), after.ratios(point, "new", BASE))
        interval = ratios.interval(FAMILYWISE_ERROR)
        assert interval is not None
        assert interval.error <= FAMILYWISE_ERROR
        missed += not interval.low <= truth <= interval.high
        right = (Verdict.INCONCLUSIVE, Verdict.SLOWER if truth > 1.02 else Verdict.EQUIVALENT)
        alarms += verdict_of(interval, 0.02) not in right
        if number < 20:
            # A comparison of the sides has this interval. Its noise floor can only take a verdict back.
            (comparison,) = compared([before], [after]).comparisons
            assert comparison.interval == interval
            assert comparison.verdict in (Verdict.INCONCLUSIVE, verdict_of(interval, 0.02))
    assert missed < tries * FAMILYWISE_ERROR + 4 * math.sqrt(tries * FAMILYWISE_ERROR)
    assert alarms < tries * FAMILYWISE_ERROR + 4 * math.sqrt(tries * FAMILYWISE_ERROR)


def two_speeds(slow: float, base_us: tuple[float, float], new_us: tuple[float, float], size: int) -> ComparableRun:
    """Return a run with this share of slow rounds; each pair of times is that of a fast and of a slow round."""
    rng = np.random.default_rng(size)
    is_slow = rng.permutation(41) < slow * 41
    times = {BASE: base_us, TWIN: base_us, "new": new_us}
    return source(
        {
            arm: (np.where(is_slow, slow_us, fast_us) * np.exp(rng.normal(0, 0.002, 41))).tolist()
            for arm, (fast_us, slow_us) in times.items()
        },
        sizes=[size],
    )


@pytest.mark.parametrize("sides", [(0.9, 0.1), (0.1, 0.9)])
def test_an_arm_whose_fast_speed_is_limited_by_the_device_does_not_change_with_the_cpu(
    sides: tuple[float, float],
) -> None:
    """The CPU was mostly slow in one run and mostly fast in the other; only the shared arm follows it fully."""
    before, after = (two_speeds(slow, (15.6, 24.5), (15.6, 16.9), 8) for slow in sides)
    (comparison,) = compared([before], [after]).comparisons
    assert comparison.ratio == pytest.approx(1.45 if sides[0] > sides[1] else 1 / 1.45, rel=0.02)
    assert (comparison.verdict, comparison.reason) == (Verdict.INCONCLUSIVE, OpenReason.SHARED_ARM_MOVED)
    assert comparison.shared is not None
    assert comparison.shared.ratio == pytest.approx(15.6 / 24.5 if sides[0] > sides[1] else 24.5 / 15.6, rel=0.01)


def test_a_real_change_is_seen_although_the_shared_arm_moved() -> None:
    """The CPU has the same two speeds, but the arm itself takes twice the time, or half of it."""
    slow_first = two_speeds(0.9, (15.6, 24.5), (15.6, 16.9), 8)
    assert verdicts(compared([slow_first], [two_speeds(0.1, (15.6, 24.5), (31.2, 33.8), 8)])) == [Verdict.SLOWER]
    fast_first = two_speeds(0.1, (15.6, 24.5), (15.6, 16.9), 8)
    assert verdicts(compared([fast_first], [two_speeds(0.9, (15.6, 24.5), (7.8, 8.5), 8)])) == [Verdict.FASTER]


CPU_BOUND, DEVICE_BOUND = 8, 4096


def on_a_cpu(cpu: float, new_us: float = 1.0) -> ComparableRun:
    """Return a run at a CPU speed: calls of both arms wait for the CPU at 8 B, and only those of new do at 4 KiB.

    ``new_us`` is the factor of a real change of new at 4 KiB.
    """
    times = {
        (CPU_BOUND, Timing.EAGER): (10 * cpu, 30 * cpu**1.6),
        (DEVICE_BOUND, Timing.EAGER): (20.0, 30 * cpu**1.6 * new_us),
        **{(size, Timing.GATED): (device, device) for size, device in ((CPU_BOUND, 6.0), (DEVICE_BOUND, 19.5))},
    }
    rng = np.random.default_rng(29)
    cells = {
        (case(size), timing, arm): dict(enumerate((us * np.exp(rng.normal(0, 0.002, 41))).tolist()))
        for (size, timing), (base_us, of_new) in times.items()
        for arm, us in ((BASE, base_us), (TWIN, base_us), ("new", of_new))
    }
    return ComparableRun(name="run", arms=(BASE, "new"), cells=cells)


@pytest.mark.parametrize("cpu", [1.5, 1 / 1.5])
def test_a_shared_arm_that_waits_for_the_device_does_not_show_the_speed_of_the_cpu(cpu: float) -> None:
    """The shared arm stood still at 4 KiB, where its device limits it, and followed the CPU less at 8 B."""
    result = compared([on_a_cpu(1.0)], [on_a_cpu(cpu)])
    eager = {each.case.size_bytes: each for each in result.comparisons if each.timing is Timing.EAGER}
    assert abs(eager[DEVICE_BOUND].ratio - 1) > 0.4
    for each in eager.values():
        assert (each.verdict, each.reason) == (Verdict.INCONCLUSIVE, OpenReason.SHARED_ARM_MOVED)
    gated = [each.verdict for each in result.comparisons if each.timing is Timing.GATED]
    assert gated == [Verdict.EQUIVALENT] * 2
    bands = bands_of([eager[DEVICE_BOUND]])
    (line,) = open_answers({"new": bands}, (), brief=False, counts=False)
    # The times are those of this size, and not of others.
    (own,) = bands[0].comparisons
    assert own.shared is not None
    assert f"own time {own.baseline_us:.1f} -> {own.candidate_us:.1f} us" in line.text
    assert f"{BASE}, {own.shared.before_us:.1f} -> {own.shared.after_us:.1f} us, does not show how much" in line.text


def test_a_change_beyond_what_the_speed_of_the_cpu_explains_is_seen() -> None:
    for cpu, factor, verdict in (
        (1.0, 1.34, Verdict.SLOWER),
        (1.0, 0.7, Verdict.FASTER),
        (1.5, 3.0, Verdict.SLOWER),
        (1 / 1.5, 0.4, Verdict.FASTER),
    ):
        comparisons = compared([on_a_cpu(1.0)], [on_a_cpu(cpu, factor)]).comparisons
        (changed,) = [each for each in comparisons if each.shared and each.shared.cpu_factors]
        assert (changed.case.size_bytes, changed.verdict) == (DEVICE_BOUND, verdict)


def test_a_band_has_no_size_whose_own_time_contradicts_its_verdict() -> None:
    """All sizes are slower by the ratio of ratios, but at one of them only the shared arm changed."""

    def joined(runs: list[ComparableRun]) -> ComparableRun:
        return replace(runs[0], cells={cell: rounds for run in runs for cell, rounds in run.cells.items()})

    plain = [two_speeds(0.0, (10.0, 10.0), (10.0, 10.0), size) for size in SIZES]
    slower = [two_speeds(0.0, (10.0, 10.0), (14.5, 14.5), size) for size in SIZES]
    moved = two_speeds(0.0, (10 / 1.45, 10.0), (10.0, 10.0), SIZES[4])
    after = joined([*slower[:4], moved, *slower[5:]])
    bands = bands_of(compared([joined(plain)], [after]).comparisons)
    assert [(band.verdict, band.reason, len(band.comparisons)) for band in bands] == [
        (Verdict.SLOWER, None, 4),
        (Verdict.INCONCLUSIVE, OpenReason.SHARED_ARM_MOVED, 1),
        (Verdict.SLOWER, None, 3),
    ]
    (line,) = open_answers({"new": bands}, (), brief=False, counts=False)
    assert line.text.partition(": ")[2] == (
        "not comparable, the machine changed; own time 10.0 -> 10.0 us, torch 10.0 -> 6.90 us"
    )


def test_a_change_below_the_noise_floor_of_the_shared_arm_has_no_verdict() -> None:
    rng = np.random.default_rng(25)

    def judge(ratio: float, *twins: float) -> tuple[Verdict | None, bool]:
        sides = [[drifting(rng, 1.0, of, twin)] for of, twin in zip((1.0, ratio), twins, strict=True)]
        (comparison,) = compared(*sides).comparisons
        return comparison.verdict, comparison.below_floor

    assert judge(1.06, 1.0, 1.0) == (Verdict.SLOWER, False)
    assert judge(1.06, 1.08, 1.0) == (Verdict.INCONCLUSIVE, True)
    assert judge(1.06, 1.0, 0.92) == (Verdict.INCONCLUSIVE, True)
    # It must also matter after the usual variance is taken off: three times the twin's deviation at this size.
    assert judge(1.16, 1.05, 1.0) == (Verdict.INCONCLUSIVE, True)
    assert judge(1.20, 1.05, 1.0) == (Verdict.SLOWER, False)
    assert judge(1 / 1.20, 1.05, 1.0) == (Verdict.FASTER, False)
    assert judge(1 / 1.16, 1.05, 1.0) == (Verdict.INCONCLUSIVE, True)
    # The floors of both sides add up as squares: 1.04 and 1 / 1.04 make 1.057.
    assert judge(1.18, 1.04, 1 / 1.04) == (Verdict.INCONCLUSIVE, True)
    assert judge(1.19, 1.04, 1 / 1.04) == (Verdict.SLOWER, False)
    assert judge(1.0, 1.05, 1.0) == (Verdict.INCONCLUSIVE, True)


def twinned(ratio: float, twins: Iterable[float | None], base: str = BASE) -> ComparableRun:
    """Return a run whose twin is off by these factors at each of the sizes; ``None``: no twin there."""
    cells: dict[Cell, Rounds] = {}
    for size, twin in zip(SIZES, twins, strict=False):
        runs = source({base: 10.0, "new": 10 * ratio} | ({f"{base}:twin": 10 * twin} if twin else {}), sizes=(size,))
        cells |= runs.cells
    return ComparableRun(name="run", arms=(BASE, "new"), cells=cells)


def test_the_noise_floor_combines_the_twins_of_both_sides() -> None:
    def floor(*twins: float | None) -> float | None:
        (comparison,) = compared(*([twinned(2.0, [twin])] for twin in twins)).comparisons
        return comparison.noise_floor

    def logarithm(*twins: float | None) -> float:
        share = floor(*twins)
        assert share is not None
        return math.log1p(share)

    # A side without a twin counts as the other side.
    assert floor(None, 1.01) == floor(1.01, None) == floor(1.01, 1.01)
    of_one_side = {twin: logarithm(twin, twin) / math.sqrt(2) for twin in (1.0, 1.03, 1.04)}
    assert logarithm(1.04, 1.03) == pytest.approx(math.hypot(of_one_side[1.04], of_one_side[1.03]))
    assert 0 < of_one_side[1.0] < of_one_side[1.03] < of_one_side[1.04]
    # A factor counts alike up and down.
    assert logarithm(0.5, 1.0) == pytest.approx(logarithm(1.0, 2.0))
    assert floor(None, None) is None


def test_twins_that_are_close_at_one_size_by_chance_allow_no_verdict_there() -> None:
    by_chance = [1.0 if number == 3 else 1.02 for number in range(8)]
    for twins in ((by_chance, by_chance), (by_chance, [None] * 8)):
        before, after = (twinned(ratio, of) for ratio, of in zip((1.0, 1.09), twins, strict=True))
        result = compared([before], [after])
        assert [(each.verdict, each.below_floor) for each in result.comparisons] == [(Verdict.INCONCLUSIVE, True)] * 8
        assert len({each.noise_floor for each in result.comparisons}) == 1
    result = compared([twinned(1.0, by_chance)], [twinned(1.2, by_chance)])
    assert verdicts(result) == [Verdict.SLOWER] * 8
    # A size without a twin has the noise floor of the others.
    result = compared([twinned(1.0, [1.02, None])], [twinned(1.0, [1.02, None])])
    assert len({each.noise_floor for each in result.comparisons}) == 1


def test_two_runs_without_a_twin_have_no_verdict() -> None:
    for ratio in (0.3, 1.0, 3.0):
        (comparison,) = compared([twinned(1.0, [None])], [twinned(ratio, [None])]).comparisons
        assert (comparison.verdict, comparison.noise_floor, comparison.below_floor) == (
            Verdict.INCONCLUSIVE,
            None,
            True,
        )
        assert comparison.interval is not None
        assert comparison.ratio == pytest.approx(ratio)
    open_anyway = source({BASE: 10.0, "new": [20.0, 30.0] * 10})
    (comparison,) = compared([open_anyway], [open_anyway]).comparisons
    assert (comparison.verdict, comparison.below_floor) == (Verdict.INCONCLUSIVE, False)


def test_several_runs_on_each_side_need_no_twin() -> None:
    result = compared(side(10.0, 10.02, 9.99), side(10.6, 10.58, 10.61))
    assert [(each.verdict, each.noise_floor, each.below_floor) for each in result.comparisons] == [
        (Verdict.SLOWER, None, False)
    ]


def test_the_twin_of_another_arm_is_used_if_the_shared_arm_has_none() -> None:
    before, after = (source({"other": 5.0, BASE: 10.0, TWIN: 10.3, "new": 10 * of}) for of in (1.0, 2.0))
    (comparison,) = compared([before], [after], arms=("new", "new"), shared_arm="other").comparisons
    assert comparison.verdict is Verdict.SLOWER
    assert comparison.noise_floor is not None


# By communicator variance: how often an unchanged candidate is called faster or slower at one size or more, by the
# baseline of its own run and by the other run.
FALSE_ALARMS = [
    (0.005, False, 0.005, 0.005),
    (0.005, True, 0.005, 0.005),
    (0.01, False, 0.005, 0.005),
    (0.01, True, 0.01, 0.01),
    (0.02, False, 0.01, 0.01),
    (0.02, True, 0.05, 0.025),
    (0.05, False, 0.04, 0.035),
    (0.05, True, 0.12, 0.055),
]


@pytest.mark.parametrize(("deviation", "lasting", "one_run", "two_runs"), FALSE_ALARMS)
def test_arms_and_runs_that_differ_only_by_communicator_variance_seldom_get_a_verdict(
    deviation: float, lasting: bool, one_run: float, two_runs: float
) -> None:
    """A ``lasting`` deviation is the same for all sizes of a communicator; otherwise each case has its own."""
    rng = np.random.default_rng(26)
    tries, alarms = 75, [0, 0]
    for _ in range(tries):
        runs = []
        for _ in range(2):
            lives = {arm: rng.normal(0, deviation) for arm in (BASE, TWIN, "new")}
            cells: dict[Cell, Rounds] = {
                (case(8 * 4**number), Timing.GATED, arm): dict(
                    enumerate(
                        np.exp((life if lasting else rng.normal(0, deviation)) + rng.normal(0, 0.004, 20)).tolist()
                    )
                )
                for number in range(14)
                for arm, life in lives.items()
            }
            runs.append([ComparableRun(name="run", arms=(BASE, "new"), cells=cells)])
        for number, comparisons in enumerate(
            (compare_arms(runs[0][0], Limits(default=0.02)), compared(*runs).comparisons)
        ):
            assert len(comparisons) == 14
            alarms[number] += any(each.verdict in (Verdict.FASTER, Verdict.SLOWER) for each in comparisons)
    for claim, counted in zip((one_run, two_runs), alarms, strict=True):
        assert counted / tries <= claim + 3 * math.sqrt(claim * (1 - claim) / tries)


def test_the_ratios_of_the_shared_arm_itself_are_reported() -> None:
    before = source({BASE: 10.0, "new": 20.0, "more": 1.0}, sizes=(8, 64))
    after = source({BASE: 12.0, "new": 24.0, "more": 1.2}, sizes=(8, 64, 512))
    # There is one ratio for each size, however many arms.
    assert compared([before], [after]).shared_ratios == pytest.approx((1.2, 1.2))
    assert compared(side(1.0), side(2.0)).shared_ratios == ()
    several = compared([before] * 3, [after] * 2, shared_arm=BASE)
    assert several.shared_ratios == pytest.approx((1.2, 1.2))
