"""Comparisons of two sides: by the variation between runs, or relative to an arm that both sides share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nccl_bench.analysis.bands import bands_of
from nccl_bench.analysis.comparable import Cell, ComparableRun, Rounds
from nccl_bench.analysis.comparison import Basis, OpenReason
from nccl_bench.analysis.next_step import next_step
from nccl_bench.analysis.one_run import compare_arms
from nccl_bench.analysis.pair_lines import known_sizes, open_places
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Verdict, pairs_needed
from nccl_bench.analysis.two_sides import SidesComparison, compare_sides
from nccl_bench.analysis.wording import compared_text
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits
from tests.support.synthetic_runs import case

BASE, TWIN = "torch", "torch:twin"
SIZES = tuple(8 * 4**step for step in range(8))


def compared(before: list[ComparableRun], after: list[ComparableRun], **options: Any) -> SidesComparison:
    """Compare the sides with a threshold of 2 %."""
    return compare_sides(before, after, Limits(default=0.02), **options)


def source(
    times: Mapping[str, float | Iterable[float]],
    name: str = "run",
    sizes: Iterable[int] = (8,),
    medians_only: bool = False,
) -> ComparableRun:
    """Return a run whose arms have these times in every case; a number stands for 20 equal rounds."""
    cells = {
        (case(size), Timing.GATED, arm): dict(enumerate([us] * 20 if isinstance(us, int | float) else us))
        for size in sizes
        for arm, us in times.items()
    }
    return ComparableRun(
        name=name, arms=tuple(arm for arm in times if arm != TWIN), cells=cells, medians_only=medians_only
    )


def side(*times_us: float, arm: str = "new") -> list[ComparableRun]:
    return [source({arm: time_us}) for time_us in times_us]


def verdicts(result: SidesComparison) -> list[Verdict | None]:
    return [each.verdict for each in result.comparisons]


# Several runs on each side.


@pytest.mark.parametrize(("first", "second"), [(2, 2), (3, 2), (2, 6), (4, 4), (6, 6), (1, 2), (5, 1)])
def test_the_interval_covers_the_truth_as_often_as_it_says(first: int, second: int) -> None:
    """Runs differ by 2 %, and rounds within a run hardly at all, so rounds alone would be sure and wrong."""
    rng = np.random.default_rng(21)
    truth, tries, missed = 1.03, 400, 0
    for _ in range(tries):
        before, after = np.exp(rng.normal(0, 0.02, first)), truth * np.exp(rng.normal(0, 0.02, second))
        (comparison,) = compared(side(*before.tolist()), side(*after.tolist())).comparisons
        assert comparison.interval is not None
        assert comparison.interval.error == FAMILYWISE_ERROR
        missed += not comparison.interval.low <= truth <= comparison.interval.high
    # Within four standard deviations both ways, because the intervals are exact.
    assert abs(missed - tries * FAMILYWISE_ERROR) < 4 * math.sqrt(tries * FAMILYWISE_ERROR)


@pytest.mark.parametrize("truth", [1.0, 1.02, 0.98])
@pytest.mark.parametrize(("first", "second"), [(2, 2), (3, 3), (6, 2), (1, 3)])
def test_all_verdicts_of_two_sides_are_wrong_as_rarely_as_one(truth: float, first: int, second: int) -> None:
    """Runs deviate at all eight sizes together. A false alarm is any faster or slower, which holds at no size."""
    rng = np.random.default_rng(22)
    tries, alarms = 60, 0
    for _ in range(tries):
        runs = []
        for count, of in ((first, 1.0), (second, truth)):
            deviations = rng.normal(0, 0.01, (count, 1)) + rng.normal(0, 0.01, (count, len(SIZES)))
            runs.append(
                [
                    ComparableRun(
                        name="run",
                        arms=("new",),
                        cells={
                            (case(size), Timing.GATED, "new"): {0: of * math.exp(log)}
                            for size, log in zip(SIZES, row, strict=True)
                        },
                    )
                    for row in deviations.tolist()
                ]
            )
        result = compared(*runs)
        assert len(result.comparisons) == len(SIZES)
        alarms += any(verdict in (Verdict.FASTER, Verdict.SLOWER) for verdict in verdicts(result))
    assert alarms < tries * FAMILYWISE_ERROR + 4 * math.sqrt(tries * FAMILYWISE_ERROR)


def test_several_runs_that_agree_show_a_difference() -> None:
    result = compared(side(10.0, 10.02, 9.99), side(10.6, 10.58, 10.61))
    assert (result.basis, result.shared_arm, verdicts(result)) == (Basis.RUNS, None, [Verdict.SLOWER])
    assert "3 runs before and 3 runs after" in result.reason
    (change,) = result.comparisons
    assert (change.baseline_us, change.candidate_us, change.pairs_needed) == (10.0, 10.6, None)
    assert change.ratio == pytest.approx(
        math.prod([10.6, 10.58, 10.61]) ** (1 / 3) / math.prod([10, 10.02, 9.99]) ** (1 / 3)
    )
    assert verdicts(compared(side(10.6, 10.58, 10.61), side(10.0, 10.02, 9.99))) == [Verdict.FASTER]
    assert verdicts(compared(side(10.0, 10.02, 9.99), side(10.01, 10.0, 10.02))) == [Verdict.EQUIVALENT]


def test_a_difference_as_large_as_between_runs_of_a_side_is_inconclusive() -> None:
    assert verdicts(compared(side(10.0, 10.6), side(10.6, 11.2))) == [Verdict.INCONCLUSIVE]


def test_one_run_against_several_uses_the_variation_of_the_several() -> None:
    several = side(10.0, 10.02, 9.99, 10.01)
    for result in (compared(several, side(11.0)), compared(side(9.0), several)):
        assert (result.basis, verdicts(result)) == (Basis.RUNS, [Verdict.SLOWER])
    scattered = side(9.0, 11.0, 10.0, 10.5)
    assert verdicts(compared(scattered, side(11.0))) == [Verdict.INCONCLUSIVE]


def test_one_run_against_several_is_relative_to_the_baseline_of_all() -> None:
    """The machine was slower by a fifth in each further run."""
    several = [source({BASE: 10 * drift, "new": 20 * drift}) for drift in (1.0, 1.2, 1.44)]
    (comparison,) = compared(several, [source({BASE: 17.0, "new": 34.0})]).comparisons
    assert (comparison.ratio, comparison.verdict) == (pytest.approx(1.0), Verdict.EQUIVALENT)
    assert f"relative to the arm {BASE}" in compared(several, [source({BASE: 17.0, "new": 34.0})]).reason


def test_several_runs_on_each_side_are_relative_to_an_arm_only_if_it_is_given() -> None:
    sides = [[source({BASE: 10 * drift, "new": 20 * drift * ratio}) for drift in (1.0, 1.3)] for ratio in (1.0, 1.1)]
    plain = compared(*sides)
    assert (plain.shared_arm, [each.candidate for each in plain.comparisons]) == (None, [BASE, "new"])
    assert verdicts(plain) == [Verdict.INCONCLUSIVE] * 2
    relative = compared(*sides, shared_arm=BASE)
    assert (relative.shared_arm, [each.candidate for each in relative.comparisons]) == (BASE, ["new"])
    assert verdicts(relative) == [Verdict.SLOWER]
    assert relative.comparisons[0].ratio == pytest.approx(1.1)


@pytest.mark.parametrize("high", [1e-9, 1e9])
def test_runs_that_differ_a_billionfold_have_finite_intervals(high: float) -> None:
    """The ends would overflow to 0 and infinity at the level of hundreds of comparisons."""
    sizes = tuple(range(8, 3208, 8))
    before = [source({"new": time_us}, sizes=sizes) for time_us in (1.0, high)]
    after = [source({"new": time_us}, sizes=sizes) for time_us in (2.0, 1.0)]
    result = compared(before, after)
    for each in result.comparisons:
        assert each.interval is not None
        assert 0 < each.interval.low < each.interval.high < math.inf
        assert math.isfinite(each.interval.half_width)
        assert each.verdict is Verdict.INCONCLUSIVE


# One run on each side.


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
    for _ in range(tries):
        (comparison,) = compared([drifting(rng, 1.0, 1.0)], [drifting(rng, 1.2, truth)]).comparisons
        assert comparison.interval is not None
        assert comparison.interval.error <= FAMILYWISE_ERROR
        missed += not comparison.interval.low <= truth <= comparison.interval.high
        alarms += comparison.verdict not in (
            Verdict.INCONCLUSIVE,
            Verdict.SLOWER if truth > 1.02 else Verdict.EQUIVALENT,
        )
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
    ((place, _),) = open_places(bands, known_sizes(bands))
    # The times are those of this size, and not of others.
    (own,) = bands[0].comparisons
    assert own.shared is not None
    assert f"own time {own.baseline_us:.1f} -> {own.candidate_us:.1f} us" in place
    assert f"{BASE}, {own.shared.before_us:.1f} -> {own.shared.after_us:.1f} us, does not show how much" in place


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
    # More rounds do not help.
    assert next_step(bands[1:2], Basis.SHARED_ARM, {}) == (
        "the only comparison is open, because the machine changed between the runs. Measure both versions in "
        "one run (--before-tree, --after-tree)",
        "",
    )
    # The option --launches is refused if another launcher starts the ranks.
    attached = {"launch": {"mode": "attached: srun"}}
    for basis, meta, expected in (
        (Basis.LAUNCHES, {"config": {"launches": 3}}, ("more launches", "--launches 10")),
        (Basis.LAUNCHES, {"config": {"launches": 12}}, ("more launches", "--launches 24")),
        (Basis.ROUNDS, attached, ("several runs and give them all to nccl-bench compare", "")),
        (Basis.SHARED_ARM, attached, ("several runs of each side and give them all to nccl-bench compare", "")),
    ):
        noisy = replace(bands[1], reason=OpenReason.WITHIN_NOISE, interval=None, pairs_needed=None)
        text, options = next_step([noisy], basis, meta)
        assert (text.partition("Measure ")[2], options) == expected
    ((place, _),) = open_places(bands, known_sizes(bands))
    assert place.partition(": ")[2] == (
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
    tries, alarms = 40, [0, 0]
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


def test_too_few_rounds_are_inconclusive_with_the_number_needed() -> None:
    few = [10.0] * 3
    (comparison,) = compared(
        [source({BASE: few, TWIN: few, "new": few})], [source({BASE: few, "new": few})]
    ).comparisons
    assert (comparison.interval, comparison.verdict) == (None, Verdict.INCONCLUSIVE)
    assert comparison.pairs_needed == pairs_needed(FAMILYWISE_ERROR / 2) == 7
    enough = [10.0] * 7
    (comparison,) = compared(
        [source({BASE: enough, TWIN: enough, "new": enough})], [source({BASE: enough, "new": enough})]
    ).comparisons
    assert (comparison.verdict, comparison.pairs_needed) == (Verdict.EQUIVALENT, None)


def test_without_an_arm_in_common_there_are_ratios_and_no_verdict() -> None:
    result = compared(side(10.0), side(13.0))
    assert (result.basis, result.shared_arm, verdicts(result)) == (Basis.NOTHING, None, [None])
    assert result.comparisons[0].ratio == pytest.approx(1.3)
    assert result.comparisons[0].interval is None
    assert "each side has only one run" in result.reason
    assert "several runs on each side" in result.reason
    assert "--shared" in result.reason


def test_different_baselines_are_no_shared_arm() -> None:
    before = source({BASE: 10.0, TWIN: 10.0, "new": 20.0, "old": 30.0})
    after = source({"old": 30.0, BASE: 10.0, "new": 20.0})
    result = compared([before], [after])
    assert (result.basis, result.shared_arm) == (Basis.NOTHING, None)
    assert [each.candidate for each in result.comparisons] == [BASE, "new", "old"]
    relative = compared([before], [after], shared_arm="old")
    assert (relative.basis, relative.shared_arm, verdicts(relative)) == (
        Basis.SHARED_ARM,
        "old",
        [Verdict.EQUIVALENT] * 2,
    )


def test_medians_alone_have_no_verdict() -> None:
    both = {BASE: 10.0, "new": 20.0}
    for sides in (
        ([source(both, medians_only=True)], [source(both)]),
        ([source(both)], [source(both, medians_only=True)]),
    ):
        result = compared(*sides)
        assert (result.basis, verdicts(result)) == (Basis.NOTHING, [None] * 2)
        assert "a single time for each cell" in result.reason
        # Ratios are not relative to an arm that has drifted itself.
        assert (result.shared_arm, result.shared_ratios) == (None, ())
        assert [(each.candidate, each.ratio) for each in result.comparisons] == [(BASE, 1.0), ("new", 1.0)]
    drifted = source({BASE: 20.0, "new": 40.0}, medians_only=True)
    assert [each.ratio for each in compared([source(both)], [drifted]).comparisons] == pytest.approx([2.0, 2.0])
    # Several summaries have no verdict either.
    several = [source(both, medians_only=True)] * 3
    assert verdicts(compared(several, several)) == [None] * 2
    assert verdicts(compared([source(both)] * 2, [source(both), several[0]])) == [None] * 2


# The pairs of arms.


def test_two_arms_may_be_compared_across_the_sides() -> None:
    before = [source({BASE: 10.0, TWIN: 10.0, "old": 20.0, "new": 1.0})]
    after = [source({BASE: 10.0, "old": 1.0, "new": 30.0})]
    result = compared(before, after, arms=("old", "new"))
    (each,) = result.comparisons
    assert (each.baseline, each.candidate, each.ratio) == ("old", "new", pytest.approx(1.5))
    assert (result.shared_arm, each.verdict) == (BASE, Verdict.SLOWER)
    # The other arms were not requested.
    assert result.only_before == result.only_after == ()


def test_cells_of_two_given_arms_that_only_one_side_has_are_listed() -> None:
    before = [source({BASE: 10.0, "old": 20.0, "new": 1.0}, sizes=(8, 16))]
    after = [source({BASE: 10.0, "new": 30.0}, sizes=(16, 32))]
    result = compared(before, after, arms=("old", "new"))
    assert [each.case.size_bytes for each in result.comparisons] == [16]
    assert result.only_before == ((case(8), Timing.GATED, "old"),)
    assert result.only_after == ((case(32), Timing.GATED, "new"),)


def test_the_baseline_is_not_relative_to_itself() -> None:
    both = [source({BASE: 10.0, "new": 20.0})], [source({BASE: 12.0, "new": 20.0})]
    result = compared(*both, arms=(BASE, BASE))
    assert (result.basis, result.shared_arm, result.comparisons[0].ratio) == (Basis.NOTHING, None, pytest.approx(1.2))


def test_sides_without_a_common_arm_are_compared_arm_by_arm() -> None:
    result = compared([source({"a": 1.0, "b": 2.0})], [source({"c": 4.0})])
    assert [(each.baseline, each.candidate, each.ratio) for each in result.comparisons] == [
        ("a", "c", pytest.approx(4.0)),
        ("b", "c", pytest.approx(2.0)),
    ]
    assert result.only_before == result.only_after == ()


def test_the_arm_that_calls_as_another_tool_does_is_compared_with_it_first() -> None:
    tool, run = source({"nccl-tests": 8.0}), source({"torch": 9.0, "stream-free": 8.0})
    for before, after in ((tool, run), (run, tool)):
        pairs = [(each.baseline, each.candidate) for each in compared([before], [after]).comparisons]
        assert [{*pair} for pair in pairs] == [{"nccl-tests", "stream-free"}, {"nccl-tests", "torch"}]


def test_arms_of_different_names_are_compared_beside_the_shared_arm() -> None:
    """The shared arm is in both runs, and the changed arm has another name."""
    before, after = source({BASE: 10.0, "old": 20.0}), source({BASE: 12.0, TWIN: 12.0, "new": 24.0})
    result = compared([before], [after], shared_arm=BASE)
    assert [(each.baseline, each.candidate, each.verdict) for each in result.comparisons] == [
        ("old", "new", Verdict.EQUIVALENT)
    ]


def placed(run: ComparableRun, **placements: Placement) -> ComparableRun:
    """Return ``run`` with the placements of some arms; ``base`` stands for the baseline."""
    named = {BASE if name == "base" else name: placement for name, placement in placements.items()}
    return replace(run, placements={cell: named[cell[2]] for cell in run.cells if cell[2] in named})


def test_an_arm_that_returns_after_the_change_is_compared_with_itself_in_place() -> None:
    before = source({BASE: 10.0, "new": 20.0})
    after = placed(source({BASE: 10.0, "new": 10.0}), new=Placement.RETURNED)
    (each,) = compared([before], [after]).comparisons
    assert (each.ratio, each.placements) == (pytest.approx(0.5), (Placement.IN_PLACE, Placement.RETURNED))
    assert compared_text(each, ("before", "after")) == "new, after (returned) against before (in-place)"
    named = msgspec.structs.replace(each, baseline="old")
    assert compared_text(named, ("before", "after")) == "new (after, returned) against old (before, in-place)"


def test_times_in_two_placements_of_a_shared_arm_or_of_one_side_are_not_combined() -> None:
    before, after = source({BASE: 10.0, "new": 20.0}), source({BASE: 10.0, "new": 10.0})
    result = compared([before], [placed(after, base=Placement.OUT_OF_PLACE)])
    assert result.comparisons == ()
    assert result.only_before == result.only_after == ((case(8), Timing.GATED, "new"),)
    several = [after, placed(after, new=Placement.RETURNED)]
    assert compared([before], several).comparisons == ()


def test_the_only_common_arm_is_compared_and_not_shared() -> None:
    result = compared([source({BASE: 10.0, "a": 1.0})], [source({BASE: 12.0, "b": 1.0})])
    assert [(each.candidate, each.ratio, each.verdict) for each in result.comparisons] == [
        (BASE, pytest.approx(1.2), None)
    ]
    assert [cell[2] for cell in result.only_before + result.only_after] == ["a", "b"]


def test_cells_without_a_round_of_the_shared_arm_are_listed() -> None:
    odd = ComparableRun(
        name="odd",
        arms=(BASE, "new"),
        cells={
            (case(8), Timing.GATED, BASE): {0: 1.0, 2: 1.0},
            (case(8), Timing.GATED, "new"): {1: 1.0, 3: 1.0},
        },
    )
    result = compared([odd], [source({BASE: 1.0, "new": 1.0})])
    assert result.comparisons == ()
    assert result.only_before == result.only_after == ((case(8), Timing.GATED, "new"),)


CELLS = st.dictionaries(
    st.tuples(
        st.sampled_from([case(8), case(16), case(8, "broadcast")]),
        st.sampled_from([Timing.GATED, Timing.EAGER]),
        st.sampled_from([BASE, TWIN, "new", "old"]),
    ),
    st.dictionaries(st.integers(0, 3), st.sampled_from([1.0, 1.5, 3.0]), min_size=1, max_size=4),
    max_size=12,
)


def as_source(cells: Mapping[Cell, Rounds], arms: list[str]) -> ComparableRun:
    measured = [arm for _, _, arm in cells if arm != TWIN]
    return ComparableRun(name="run", arms=tuple(dict.fromkeys((*arms, *measured))), cells=cells)


SIDE = st.lists(st.builds(as_source, CELLS, st.sampled_from([[BASE], ["new"], [BASE, "old"]])), min_size=1, max_size=3)


@given(SIDE, SIDE, st.sampled_from([None, BASE, "old"]))
def test_every_cell_is_compared_or_listed(
    before: list[ComparableRun], after: list[ComparableRun], shared: str | None
) -> None:
    result = compared(before, after, shared_arm=shared)
    for of_side, arm_of, rest in (
        (before, "baseline", result.only_before),
        (after, "candidate", result.only_after),
    ):
        cells = {cell for run in of_side for cell in run.cells}
        used = {(each.case, each.timing, getattr(each, arm_of)) for each in result.comparisons}
        apart = {cell for cell in cells if cell[2] in (result.shared_arm, TWIN)}
        assert used | set(rest) | apart == cells
        assert used.isdisjoint(rest)
        assert apart.isdisjoint(rest)
        assert len(set(rest)) == len(rest)
        # A cell is compared only if every run of the side has it.
        assert all(cell in run.cells for cell in used for run in of_side)
    assert all((each.verdict is None) is (result.basis is Basis.NOTHING) for each in result.comparisons)
    assert all(math.isfinite(each.ratio) and each.ratio > 0 for each in result.comparisons)
