"""Comparisons of two sides by the variation between runs, the pairs that are compared, and sides without a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nccl_bench.analysis.arm_pairs import compare_pairs
from nccl_bench.analysis.cells import Cell, Rounds
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Basis
from nccl_bench.analysis.estimates import EstimateList, Medians, mean_ratios
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Verdict, pairs_needed
from nccl_bench.analysis.wording import compared_text
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.timings import Timing
from tests.support.compared_sides import BASE, LIMITS, SIZES, TWIN, compared, side, source, verdicts
from tests.support.synthetic_comparisons import arm_pairs
from tests.support.synthetic_runs import case

# Several runs on each side.


@pytest.mark.parametrize(("first", "second"), [(2, 2), (3, 2), (2, 6), (4, 4), (6, 6), (1, 2), (5, 1)])
def test_the_interval_covers_the_truth_as_often_as_it_says(first: int, second: int) -> None:
    """Runs differ by 2 %, and rounds within a run hardly at all, so rounds alone would be sure and wrong."""
    rng = np.random.default_rng(21)
    truth, tries = 1.03, 400
    sides = [
        [np.exp(rng.normal(0, 0.02, first)).tolist(), (truth * np.exp(rng.normal(0, 0.02, second))).tolist()]
        for _ in range(tries)
    ]
    estimates = mean_ratios([Medians(kind=number, sides=of_both) for number, of_both in enumerate(sides)])
    intervals = [estimate.interval(FAMILYWISE_ERROR) for estimate in estimates]
    missed = sum(each is not None and not each.low <= truth <= each.high for each in intervals)
    # Within four standard deviations both ways, because the intervals are exact.
    assert abs(missed - tries * FAMILYWISE_ERROR) < 4 * math.sqrt(tries * FAMILYWISE_ERROR)
    # A comparison of the sides has the same interval.
    for (before, after), expected in zip(sides[:20], intervals, strict=False):
        (comparison,) = compared(side(*before), side(*after)).comparisons
        assert comparison.interval == expected
        assert expected is not None
        assert expected.error == FAMILYWISE_ERROR


@pytest.mark.parametrize("truth", [1.0, 1.02, 0.98])
@pytest.mark.parametrize(("first", "second"), [(2, 2), (3, 3), (6, 2), (1, 3)])
def test_all_verdicts_of_two_sides_are_wrong_as_rarely_as_one(truth: float, first: int, second: int) -> None:
    """Runs deviate at all eight sizes together. A false alarm is any faster or slower, which holds at no size."""
    rng = np.random.default_rng(22)
    tries, alarms = 125, 0
    cases = [case(size) for size in SIZES]
    for number in range(tries):
        logs = [
            rng.normal(0, 0.01, (count, 1)) + rng.normal(0, 0.01, (count, len(SIZES))) + math.log(of)
            for count, of in ((first, 1.0), (second, truth))
        ]
        before, after = (np.exp(of).T.tolist() for of in logs)
        estimates = mean_ratios([Medians(kind=0, sides=of_both) for of_both in zip(before, after, strict=True)])
        comparisons = compare_pairs(arm_pairs(cases, EstimateList(estimates)), LIMITS, Basis.RUNS)
        assert len(comparisons) == len(SIZES)
        alarms += any(each.verdict in (Verdict.FASTER, Verdict.SLOWER) for each in comparisons)
        if number < 10:
            # A comparison of the sides has the same verdicts, each at the same level.
            result = compared(*([sized(times) for times in np.exp(of).tolist()] for of in logs))
            assert [(each.verdict, each.interval) for each in result.comparisons] == [
                (each.verdict, each.interval) for each in comparisons
            ]
    assert alarms < tries * FAMILYWISE_ERROR + 4 * math.sqrt(tries * FAMILYWISE_ERROR)


def sized(times_us: list[float]) -> ComparableRun:
    """Return a run with one time at each of ``SIZES``."""
    cells = {(case(size), Timing.GATED, "new"): {0: us} for size, us in zip(SIZES, times_us, strict=True)}
    return ComparableRun(name="run", arms=("new",), cells=cells)


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
