"""Sides of several runs: verdicts from the variation between runs, or from an arm that both sides share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nccl_bench.analysis.comparable import Cell, ComparableRun, Rounds
from nccl_bench.analysis.comparison import Basis
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Verdict, pairs_needed
from nccl_bench.analysis.two_sides import SidesComparison, compare_sides
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
    """A run whose arms have these times in every case; a number stands for 20 equal rounds."""
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


def verdicts(found: SidesComparison) -> list[Verdict | None]:
    return [each.verdict for each in found.comparisons]


# Several runs a side.


@pytest.mark.parametrize(("first", "second"), [(2, 2), (3, 2), (2, 6), (4, 4), (6, 6), (1, 2), (5, 1)])
def test_the_interval_covers_the_truth_as_often_as_it_says(first: int, second: int) -> None:
    """Runs differ by 2 %, rounds within a run by next to nothing: rounds alone would be sure and wrong."""
    rng = np.random.default_rng(21)
    truth, tries, missed = 1.03, 400, 0
    for _ in range(tries):
        before, after = np.exp(rng.normal(0, 0.02, first)), truth * np.exp(rng.normal(0, 0.02, second))
        (found,) = compared(side(*before.tolist()), side(*after.tolist())).comparisons
        assert found.interval is not None
        assert found.interval.error == FAMILYWISE_ERROR
        missed += not found.interval.low <= truth <= found.interval.high
    # Four standard deviations; the intervals are exact, so they are not much too wide either.
    assert abs(missed - tries * FAMILYWISE_ERROR) < 4 * math.sqrt(tries * FAMILYWISE_ERROR)


@pytest.mark.parametrize("truth", [1.0, 1.02, 0.98])
@pytest.mark.parametrize(("first", "second"), [(2, 2), (3, 3), (6, 2), (1, 3)])
def test_all_verdicts_of_two_sides_are_wrong_as_rarely_as_one(truth: float, first: int, second: int) -> None:
    """Eight sizes, whose runs move together: an alarm is a verdict that does not hold for any of them."""
    rng = np.random.default_rng(22)
    tries, alarms = 250, 0
    for _ in range(tries):
        runs = []
        for count, of in ((first, 1.0), (second, truth)):
            luck = rng.normal(0, 0.01, (count, 1)) + rng.normal(0, 0.01, (count, len(SIZES)))
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
                    for row in luck.tolist()
                ]
            )
        found = compared(*runs)
        assert len(found.comparisons) == len(SIZES)
        alarms += any(verdict in (Verdict.FASTER, Verdict.SLOWER) for verdict in verdicts(found))
    assert alarms < tries * FAMILYWISE_ERROR + 4 * math.sqrt(tries * FAMILYWISE_ERROR)


def test_several_runs_that_agree_tell_a_difference() -> None:
    found = compared(side(10.0, 10.02, 9.99), side(10.6, 10.58, 10.61))
    assert (found.basis, found.shared_arm, verdicts(found)) == (Basis.RUNS, None, [Verdict.SLOWER])
    assert "3 and 3 runs a side" in found.reason
    (change,) = found.comparisons
    assert (change.baseline_us, change.candidate_us, change.pairs_needed) == (10.0, 10.6, None)
    assert change.ratio == pytest.approx(
        math.prod([10.6, 10.58, 10.61]) ** (1 / 3) / math.prod([10, 10.02, 9.99]) ** (1 / 3)
    )
    assert verdicts(compared(side(10.6, 10.58, 10.61), side(10.0, 10.02, 9.99))) == [Verdict.FASTER]
    assert verdicts(compared(side(10.0, 10.02, 9.99), side(10.01, 10.0, 10.02))) == [Verdict.EQUIVALENT]


def test_runs_that_differ_among_themselves_by_as_much_tell_nothing() -> None:
    assert verdicts(compared(side(10.0, 10.6), side(10.6, 11.2))) == [Verdict.INCONCLUSIVE]


def test_one_run_against_several_stands_on_the_variation_of_the_several() -> None:
    several = side(10.0, 10.02, 9.99, 10.01)
    for found in (compared(several, side(11.0)), compared(side(9.0), several)):
        assert (found.basis, verdicts(found)) == (Basis.RUNS, [Verdict.SLOWER])
    scattered = side(9.0, 11.0, 10.0, 10.5)
    assert verdicts(compared(scattered, side(11.0))) == [Verdict.INCONCLUSIVE]


def test_one_run_against_several_is_relative_to_the_baseline_of_all() -> None:
    """The machine was slower by a fifth each time another run was made."""
    several = [source({BASE: 10 * drift, "new": 20 * drift}) for drift in (1.0, 1.2, 1.44)]
    (found,) = compared(several, [source({BASE: 17.0, "new": 34.0})]).comparisons
    assert (found.ratio, found.verdict) == (pytest.approx(1.0), Verdict.EQUIVALENT)
    assert f"relative to {BASE}" in compared(several, [source({BASE: 17.0, "new": 34.0})]).reason


def test_several_runs_a_side_are_relative_to_an_arm_only_if_told_so() -> None:
    sides = [[source({BASE: 10 * drift, "new": 20 * drift * ratio}) for drift in (1.0, 1.3)] for ratio in (1.0, 1.1)]
    plain = compared(*sides)
    assert (plain.shared_arm, [each.candidate for each in plain.comparisons]) == (None, [BASE, "new"])
    assert verdicts(plain) == [Verdict.INCONCLUSIVE] * 2
    relative = compared(*sides, shared_arm=BASE)
    assert (relative.shared_arm, [each.candidate for each in relative.comparisons]) == (BASE, ["new"])
    assert verdicts(relative) == [Verdict.SLOWER]
    assert relative.comparisons[0].ratio == pytest.approx(1.1)


@pytest.mark.parametrize("high", [1e-9, 1e9])
def test_runs_that_have_nothing_in_common_still_have_a_width(high: float) -> None:
    """At the level of one of hundreds the ends would be 0 and infinity."""
    sizes = tuple(range(8, 3208, 8))
    before = [source({"new": time_us}, sizes=sizes) for time_us in (1.0, high)]
    after = [source({"new": time_us}, sizes=sizes) for time_us in (2.0, 1.0)]
    found = compared(before, after)
    for each in found.comparisons:
        assert each.interval is not None
        assert 0 < each.interval.low < each.interval.high < math.inf
        assert math.isfinite(each.interval.half_width)
        assert each.verdict is Verdict.INCONCLUSIVE


# One run a side.


def drifting(rng: np.random.Generator, drift: float, ratio: float, twin: float = 1.0) -> ComparableRun:
    """A run on a machine that is slower by ``drift``, and by up to a third more on the way, for all arms alike."""
    machine = drift * np.linspace(1.0, 1.3, 25) * np.exp(rng.normal(0, 0.05, 25))
    times = {BASE: 10.0, TWIN: 10.0 * twin, "new": 20.0 * ratio}
    return source({arm: (us * machine * np.exp(rng.normal(0, 0.002, 25))).tolist() for arm, us in times.items()})


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(1.0, Verdict.EQUIVALENT), (1.06, Verdict.SLOWER), (0.94, Verdict.FASTER)]
)
@pytest.mark.parametrize("drift", [0.8, 1.0, 1.2])
def test_what_moves_both_arms_alike_drops_out(ratio: float, verdict: Verdict, drift: float) -> None:
    rng = np.random.default_rng(23)
    told = []
    for _ in range(20):
        found = compared([drifting(rng, 1.0, 1.0)], [drifting(rng, drift, ratio)])
        assert (found.basis, found.shared_arm) == (Basis.SHARED_ARM, BASE)
        assert [each.candidate for each in found.comparisons] == ["new"]
        told += verdicts(found)
        # Times are shown as they were measured, drift and all.
        assert found.comparisons[0].candidate_us / found.comparisons[0].baseline_us == pytest.approx(
            drift * ratio, rel=0.15
        )
    assert told == [verdict] * 20


@pytest.mark.parametrize("truth", [1.0, 1.02, 1.05])
def test_relative_to_a_shared_arm_the_interval_covers_the_truth(truth: float) -> None:
    rng = np.random.default_rng(24)
    tries, missed, alarms = 400, 0, 0
    for _ in range(tries):
        (found,) = compared([drifting(rng, 1.0, 1.0)], [drifting(rng, 1.2, truth)]).comparisons
        assert found.interval is not None
        assert found.interval.error <= FAMILYWISE_ERROR
        missed += not found.interval.low <= truth <= found.interval.high
        alarms += found.verdict not in (Verdict.INCONCLUSIVE, Verdict.SLOWER if truth > 1.02 else Verdict.EQUIVALENT)
    assert missed < tries * FAMILYWISE_ERROR + 4 * math.sqrt(tries * FAMILYWISE_ERROR)
    assert alarms < tries * FAMILYWISE_ERROR + 4 * math.sqrt(tries * FAMILYWISE_ERROR)


def test_a_change_below_what_the_shared_arm_s_twin_shows_is_not_told() -> None:
    rng = np.random.default_rng(25)

    def told(ratio: float, *twins: float) -> tuple[Verdict | None, bool]:
        sides = [[drifting(rng, 1.0, of, twin)] for of, twin in zip((1.0, ratio), twins, strict=True)]
        (found,) = compared(*sides).comparisons
        return found.verdict, found.below_floor

    assert told(1.06, 1.0, 1.0) == (Verdict.SLOWER, False)
    assert told(1.06, 1.08, 1.0) == (Verdict.INCONCLUSIVE, True)
    assert told(1.06, 1.0, 0.92) == (Verdict.INCONCLUSIVE, True)
    # It has to matter without what is usual too, which is three times what the twin shows at the one size.
    assert told(1.16, 1.05, 1.0) == (Verdict.INCONCLUSIVE, True)
    assert told(1.20, 1.05, 1.0) == (Verdict.SLOWER, False)
    assert told(1 / 1.20, 1.05, 1.0) == (Verdict.FASTER, False)
    assert told(1 / 1.16, 1.05, 1.0) == (Verdict.INCONCLUSIVE, True)
    # Either side's counts, as squares: 1.04 and 1 / 1.04 are together 1.057.
    assert told(1.19, 1.04, 1 / 1.04) == (Verdict.INCONCLUSIVE, True)
    assert told(1.22, 1.04, 1 / 1.04) == (Verdict.SLOWER, False)
    assert told(1.0, 1.05, 1.0) == (Verdict.INCONCLUSIVE, True)


def twinned(ratio: float, twins: Iterable[float | None], base: str = BASE) -> ComparableRun:
    """A run with a twin that is so far off at each of the sizes, or with none there."""
    cells: dict[Cell, Rounds] = {}
    for size, twin in zip(SIZES, twins, strict=False):
        runs = source({base: 10.0, "new": 10 * ratio} | ({f"{base}:twin": 10 * twin} if twin else {}), sizes=(size,))
        cells |= runs.cells
    return ComparableRun(name="run", arms=(BASE, "new"), cells=cells)


def test_what_the_twins_show_on_both_sides_is_the_floor() -> None:
    def floor(*twins: float | None) -> float | None:
        (found,) = compared(*([twinned(2.0, [twin])] for twin in twins)).comparisons
        return found.noise_floor

    assert floor(1.04, 1.03) == pytest.approx(math.exp(math.hypot(math.log(1.04), math.log(1.03))) - 1)
    # A factor is as far from 1 upwards as downwards.
    assert floor(0.5, 1.0) == floor(1.0, 2.0) == pytest.approx(1.0)
    # A side without one is as lucky as the other.
    assert floor(None, 1.01) == floor(1.01, None) == floor(1.01, 1.01)
    assert floor(1.01, 1.01) == pytest.approx(1.01 ** math.sqrt(2) - 1)
    assert floor(1.0, 1.0) == 0.0
    assert floor(None, None) is None


def test_a_twin_that_is_lucky_at_one_size_on_both_sides_does_not_make_a_verdict_there() -> None:
    lucky = [1.0 if number == 3 else 1.02 for number in range(8)]
    for twins in ((lucky, lucky), (lucky, [None] * 8)):
        before, after = (twinned(ratio, of) for ratio, of in zip((1.0, 1.09), twins, strict=True))
        found = compared([before], [after])
        assert [(each.verdict, each.below_floor) for each in found.comparisons] == [(Verdict.INCONCLUSIVE, True)] * 8
        assert [each.noise_floor == 0.0 for each in found.comparisons] == [number == 3 for number in range(8)]
    found = compared([twinned(1.0, lucky)], [twinned(1.12, lucky)])
    assert verdicts(found) == [Verdict.SLOWER] * 8
    # Where a size has none, what is usual is all that is known.
    found = compared([twinned(1.0, [1.02, None])], [twinned(1.0, [1.02, None])])
    assert [each.noise_floor for each in found.comparisons] == pytest.approx(
        [1.02**root - 1 for root in (2**0.5, 18**0.5)]
    )


def test_of_two_runs_without_a_twin_nothing_is_told() -> None:
    for ratio in (0.3, 1.0, 3.0):
        (found,) = compared([twinned(1.0, [None])], [twinned(ratio, [None])]).comparisons
        assert (found.verdict, found.noise_floor, found.below_floor) == (Verdict.INCONCLUSIVE, None, True)
        assert found.interval is not None
        assert found.ratio == pytest.approx(ratio)
    open_anyway = source({BASE: 10.0, "new": [20.0, 30.0] * 10})
    (found,) = compared([open_anyway], [open_anyway]).comparisons
    assert (found.verdict, found.below_floor) == (Verdict.INCONCLUSIVE, False)


def test_several_runs_a_side_need_no_twin() -> None:
    found = compared(side(10.0, 10.02, 9.99), side(10.6, 10.58, 10.61))
    assert [(each.verdict, each.noise_floor, each.below_floor) for each in found.comparisons] == [
        (Verdict.SLOWER, None, False)
    ]


def test_the_twin_of_whatever_arm_a_run_has_tells_its_luck() -> None:
    """The one to be relative to has none of its own."""
    before, after = (source({"other": 5.0, BASE: 10.0, TWIN: 10.3, "new": 10 * of}) for of in (1.0, 2.0))
    (found,) = compared([before], [after], arms=("new", "new"), shared_arm="other").comparisons
    assert (found.verdict, found.noise_floor) == (Verdict.SLOWER, pytest.approx(1.03 ** math.sqrt(2) - 1))


@pytest.mark.parametrize("ratio", [0.1, 10.0])
def test_ten_times_is_above_a_floor_of_less_than_ten_times(ratio: float) -> None:
    verdict = Verdict.FASTER if ratio < 1 else Verdict.SLOWER
    for times, told in ((9.9, verdict), (10.1, Verdict.INCONCLUSIVE)):
        before, after = (
            source({BASE: 10.0, TWIN: [10 * times, 10 / times] * 10 if wild else 10.0, "new": 10 * of})
            for wild, of in ((True, 1.0), (False, ratio))
        )
        (found,) = compared([before], [after]).comparisons
        assert (found.noise_floor, found.verdict) == (pytest.approx(times - 1), told)


# By the luck of a communicator: how often a candidate that did not change is called faster or slower at a size or more.
TOLD_APART = [
    (0.005, False, 0.005),
    (0.005, True, 0.005),
    (0.01, False, 0.005),
    (0.01, True, 0.01),
    (0.02, False, 0.01),
    (0.02, True, 0.025),
    (0.05, False, 0.035),
    (0.05, True, 0.055),
]


@pytest.mark.parametrize(("luck", "lasting", "claim"), TOLD_APART)
def test_runs_that_differ_by_the_luck_of_their_communicators_alone_are_seldom_told_apart(
    luck: float, lasting: bool, claim: float
) -> None:
    """``lasting`` luck is a communicator's for all sizes of its run; else each case draws anew."""
    rng = np.random.default_rng(26)
    tries, alarms = 150, 0
    for _ in range(tries):
        runs = []
        for _ in range(2):
            lives = {arm: rng.normal(0, luck) for arm in (BASE, TWIN, "new")}
            cells: dict[Cell, Rounds] = {
                (case(8 * 4**number), Timing.GATED, arm): dict(
                    enumerate(np.exp((life if lasting else rng.normal(0, luck)) + rng.normal(0, 0.004, 20)).tolist())
                )
                for number in range(14)
                for arm, life in lives.items()
            }
            runs.append([ComparableRun(name="run", arms=(BASE, "new"), cells=cells)])
        found = compared(*runs)
        assert len(found.comparisons) == 14
        alarms += any(verdict in (Verdict.FASTER, Verdict.SLOWER) for verdict in verdicts(found))
    assert alarms / tries <= claim + 3 * math.sqrt(claim * (1 - claim) / tries)


def test_what_the_shared_arm_did_itself_is_known() -> None:
    before = source({BASE: 10.0, "new": 20.0, "more": 1.0}, sizes=(8, 64))
    after = source({BASE: 12.0, "new": 24.0, "more": 1.2}, sizes=(8, 64, 512))
    # One for each size, however many arms.
    assert compared([before], [after]).shared_ratios == pytest.approx((1.2, 1.2))
    assert compared(side(1.0), side(2.0)).shared_ratios == ()
    several = compared([before] * 3, [after] * 2, shared_arm=BASE)
    assert several.shared_ratios == pytest.approx((1.2, 1.2))


def test_too_few_rounds_are_inconclusive_and_say_how_many_it_takes() -> None:
    few = [10.0] * 3
    (found,) = compared([source({BASE: few, TWIN: few, "new": few})], [source({BASE: few, "new": few})]).comparisons
    assert (found.interval, found.verdict) == (None, Verdict.INCONCLUSIVE)
    assert found.pairs_needed == pairs_needed(FAMILYWISE_ERROR / 2) == 7
    enough = [10.0] * 7
    (found,) = compared(
        [source({BASE: enough, TWIN: enough, "new": enough})], [source({BASE: enough, "new": enough})]
    ).comparisons
    assert (found.verdict, found.pairs_needed) == (Verdict.EQUIVALENT, None)


def test_without_an_arm_in_common_there_are_ratios_and_no_verdict() -> None:
    found = compared(side(10.0), side(13.0))
    assert (found.basis, found.shared_arm, verdicts(found)) == (Basis.NOTHING, None, [None])
    assert found.comparisons[0].ratio == pytest.approx(1.3)
    assert found.comparisons[0].interval is None
    assert "not paired" in found.reason
    assert "several runs a side" in found.reason
    assert "--shared" in found.reason


def test_a_baseline_that_the_two_do_not_have_in_common_is_no_reference() -> None:
    before = source({BASE: 10.0, TWIN: 10.0, "new": 20.0, "old": 30.0})
    after = source({"old": 30.0, BASE: 10.0, "new": 20.0})
    found = compared([before], [after])
    assert (found.basis, found.shared_arm) == (Basis.NOTHING, None)
    assert [each.candidate for each in found.comparisons] == [BASE, "new", "old"]
    told = compared([before], [after], shared_arm="old")
    assert (told.basis, told.shared_arm, verdicts(told)) == (Basis.SHARED_ARM, "old", [Verdict.EQUIVALENT] * 2)


def test_of_medians_alone_there_is_no_verdict() -> None:
    both = {BASE: 10.0, "new": 20.0}
    for sides in (
        ([source(both, medians_only=True)], [source(both)]),
        ([source(both)], [source(both, medians_only=True)]),
    ):
        found = compared(*sides)
        assert (found.basis, verdicts(found)) == (Basis.NOTHING, [None] * 2)
        assert "a single time for each cell" in found.reason
        # Not relative to an arm that has drifted itself.
        assert (found.shared_arm, found.shared_ratios) == (None, ())
        assert [(each.candidate, each.ratio) for each in found.comparisons] == [(BASE, 1.0), ("new", 1.0)]
    drifted = source({BASE: 20.0, "new": 40.0}, medians_only=True)
    assert [each.ratio for each in compared([source(both)], [drifted]).comparisons] == pytest.approx([2.0, 2.0])
    # Nor of several, one of which may be another's.
    several = [source(both, medians_only=True)] * 3
    assert verdicts(compared(several, several)) == [None] * 2
    assert verdicts(compared([source(both)] * 2, [source(both), several[0]])) == [None] * 2


# What is compared with what.


def test_two_arms_may_be_compared_across_the_sides() -> None:
    before = [source({BASE: 10.0, TWIN: 10.0, "old": 20.0, "new": 1.0})]
    after = [source({BASE: 10.0, "old": 1.0, "new": 30.0})]
    found = compared(before, after, arms=("old", "new"))
    (each,) = found.comparisons
    assert (each.baseline, each.candidate, each.ratio) == ("old", "new", pytest.approx(1.5))
    assert (found.shared_arm, each.verdict) == (BASE, Verdict.SLOWER)
    # Nobody asked for the other ones.
    assert found.only_before == found.only_after == ()


def test_of_two_arms_the_cells_of_one_side_alone_are_listed() -> None:
    before = [source({BASE: 10.0, "old": 20.0, "new": 1.0}, sizes=(8, 16))]
    after = [source({BASE: 10.0, "new": 30.0}, sizes=(16, 32))]
    found = compared(before, after, arms=("old", "new"))
    assert [each.case.size_bytes for each in found.comparisons] == [16]
    assert found.only_before == ((case(8), Timing.GATED, "old"),)
    assert found.only_after == ((case(32), Timing.GATED, "new"),)


def test_the_baseline_is_no_reference_for_itself() -> None:
    both = [source({BASE: 10.0, "new": 20.0})], [source({BASE: 12.0, "new": 20.0})]
    found = compared(*both, arms=(BASE, BASE))
    assert (found.basis, found.shared_arm, found.comparisons[0].ratio) == (Basis.NOTHING, None, pytest.approx(1.2))


def test_sides_without_a_common_arm_are_compared_arm_by_arm() -> None:
    found = compared([source({"a": 1.0, "b": 2.0})], [source({"c": 4.0})])
    assert [(each.baseline, each.candidate, each.ratio) for each in found.comparisons] == [
        ("a", "c", pytest.approx(4.0)),
        ("b", "c", pytest.approx(2.0)),
    ]
    assert found.only_before == found.only_after == ()


def test_beside_the_shared_arm_those_of_different_names_are_compared() -> None:
    """The natural use: the reference is in both runs, and the subject has changed its name."""
    before, after = source({BASE: 10.0, "old": 20.0}), source({BASE: 12.0, TWIN: 12.0, "new": 24.0})
    found = compared([before], [after], shared_arm=BASE)
    assert [(each.baseline, each.candidate, each.verdict) for each in found.comparisons] == [
        ("old", "new", Verdict.EQUIVALENT)
    ]


def test_an_arm_that_is_alone_in_common_is_what_is_compared() -> None:
    found = compared([source({BASE: 10.0, "a": 1.0})], [source({BASE: 12.0, "b": 1.0})])
    assert [(each.candidate, each.ratio, each.verdict) for each in found.comparisons] == [
        (BASE, pytest.approx(1.2), None)
    ]
    assert [cell[2] for cell in found.only_before + found.only_after] == ["a", "b"]


def test_what_has_no_round_in_common_with_the_shared_arm_is_listed() -> None:
    odd = ComparableRun(
        name="odd",
        arms=(BASE, "new"),
        cells={
            (case(8), Timing.GATED, BASE): {0: 1.0, 2: 1.0},
            (case(8), Timing.GATED, "new"): {1: 1.0, 3: 1.0},
        },
    )
    found = compared([odd], [source({BASE: 1.0, "new": 1.0})])
    assert found.comparisons == ()
    assert found.only_before == found.only_after == ((case(8), Timing.GATED, "new"),)


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
    found = compared(before, after, shared_arm=shared)
    for of_side, arm_of, rest in (
        (before, "baseline", found.only_before),
        (after, "candidate", found.only_after),
    ):
        cells = {cell for run in of_side for cell in run.cells}
        used = {(each.case, each.timing, getattr(each, arm_of)) for each in found.comparisons}
        apart = {cell for cell in cells if cell[2] in (found.shared_arm, TWIN)}
        assert used | set(rest) | apart == cells
        assert used.isdisjoint(rest)
        assert apart.isdisjoint(rest)
        assert len(set(rest)) == len(rest)
        # A cell is compared only if each run of the side has it.
        assert all(cell in run.cells for cell in used for run in of_side)
    assert all((each.verdict is None) is (found.basis is Basis.NOTHING) for each in found.comparisons)
    assert all(math.isfinite(each.ratio) and each.ratio > 0 for each in found.comparisons)
