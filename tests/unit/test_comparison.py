"""The arms of one run against its baseline, over pairs of the same round, above the noise floor."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from synthetic_runs import case, crash, run, samples, wrong

from nccl_bench.analysis.comparison import Compared, of_run, within
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Verdict, pairs_needed
from nccl_bench.capabilities import twin_of
from nccl_bench.collectives import Case, Timing
from nccl_bench.errors import RecordError
from nccl_bench.records.schema import Line, Samples, Skipped, Status

BASE = "dedicated-stream"
TWIN = twin_of(BASE)


def two_percent(_case: Case, _timing: Timing) -> float:
    return 0.02


def steady(arm: str, ratio: float = 1.0, rounds: int = 20, spread: float = 0.0, **changes: object) -> Samples:
    """Times around 10 us times ``ratio``: as often too high by ``spread`` as too low."""
    return samples(
        arm, samples_us=tuple(10 * ratio * (1 + spread) ** (-1) ** number for number in range(rounds)), **changes
    )


def compared(*lines: Line, **arguments: object) -> list[Compared]:
    return within(run(lines), two_percent, **arguments)  # type: ignore[arg-type]


def verdicts(*lines: Line) -> dict[str, Verdict]:
    return {one.candidate: one.verdict for one in compared(*lines)}


def test_every_arm_is_compared_with_the_baseline_in_the_order_measured() -> None:
    lines = [
        steady(arm, ratio, case=case(size), timing=timing)
        for size in (1024, 8)
        for timing in (Timing.GATED, Timing.EAGER)
        for arm, ratio in ((BASE, 1.0), ("torch", 1.5), ("stream-free", 0.5), ("torch-async", 1.0))
    ]
    found = compared(*lines)
    assert [(one.case.size_bytes, one.timing) for one in found[::3]] == [
        (size, timing) for size in (1024, 8) for timing in (Timing.GATED, Timing.EAGER)
    ]
    # The order of the run's own arms; one of them is in no line.
    assert [(one.candidate, one.baseline, one.verdict) for one in found[:3]] == [
        ("stream-free", BASE, Verdict.FASTER),
        ("torch", BASE, Verdict.SLOWER),
        ("torch-async", BASE, Verdict.EQUIVALENT),
    ]
    assert len(found) == 12


def test_pairs_are_of_the_same_round() -> None:
    """The machine slows down a hundredfold on the way, and the arm's rounds are written in another order."""
    rounds = tuple(range(12))
    base = samples(BASE, rounds=rounds, samples_us=tuple(10.0 * 1.5**number for number in rounds))
    arm = samples("torch", rounds=rounds[::-1], samples_us=tuple(11.0 * 1.5**number for number in rounds[::-1]))
    (found,) = compared(base, arm)
    assert found.verdict is Verdict.SLOWER
    assert found.comparison.ratio == pytest.approx(1.1)
    assert found.comparison.interval is not None
    assert found.comparison.interval.low == pytest.approx(1.1)


def test_a_round_that_one_of_the_two_lacks_is_no_pair() -> None:
    base = samples(BASE, rounds=(0, 1, 2, 3, 4, 6, 7), samples_us=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0))
    arm = samples("torch", rounds=(1, 2, 3, 4, 5, 6, 7, 9), samples_us=(2.0, 2.0, 2.0, 2.0, 99.0, 2.0, 2.0, 99.0))
    (found,) = compared(base, arm)
    assert (found.comparison.pairs, found.comparison.ratio) == (6, pytest.approx(2.0))
    assert found.comparison.interval is not None
    assert found.comparison.interval.high == 2.0


@pytest.mark.parametrize(
    "lines",
    [
        [steady(BASE), wrong(arm="torch")],
        [wrong(arm=BASE), steady("torch")],
        [steady(BASE), samples("torch", rounds=(90, 91), samples_us=(1.0, 1.0))],
        [steady(BASE), samples("torch", samples_us=(), discarded=9)],
        [samples(BASE, samples_us=(), discarded=9), steady("torch")],
        [steady(BASE), steady("torch", case=case(8))],
        [steady(BASE), steady("torch", timing=Timing.EAGER)],
        [steady(BASE), Skipped(case=case(8), reason="large"), crash()],
        [steady("torch")],
        [],
    ],
    ids=[
        "wrong",
        "base wrong",
        "no round",
        "none kept",
        "none of base",
        "case",
        "timing",
        "no arm",
        "no base",
        "empty",
    ],
)
def test_nothing_is_compared_where_there_is_nothing_to_compare(lines: list[Line]) -> None:
    assert compared(*lines) == []


def test_a_wrong_line_spoils_its_own_arm_alone() -> None:
    assert verdicts(steady(BASE), wrong(arm="torch"), steady("stream-free", 0.5)) == {"stream-free": Verdict.FASTER}
    # As one whose outputs were wrong after it was timed, so that it has times.
    for late in (BASE, "torch"):
        lines = [
            replace(line, status=Status.WRONG) if line.arm == late else line for line in (steady(BASE), steady("torch"))
        ]
        assert compared(*lines) == []


def test_all_comparisons_of_a_run_share_the_error() -> None:
    """What is clear alone has too few rounds beside a hundred others that are not."""
    clear = [steady(BASE, rounds=6), steady("torch", 1.5, rounds=6)]
    assert verdicts(*clear) == {"torch": Verdict.SLOWER}
    rest = [
        line
        for number in range(100)
        for line in (
            steady(BASE, case=case(8 * number + 16)),
            steady("torch", 1.02, 20, 0.1, case=case(8 * number + 16)),
        )
    ]
    found = compared(*clear, *rest)
    assert {one.verdict for one in found} == {Verdict.INCONCLUSIVE}
    assert found[0].comparison.interval is None
    assert found[0].comparison.pairs_needed == pairs_needed(FAMILYWISE_ERROR / 101)


def test_a_difference_below_the_twin_s_is_not_told() -> None:
    lines = [steady(BASE), steady("torch", 1.05), steady("stream-free", 0.80)]
    assert verdicts(*lines) == {"torch": Verdict.SLOWER, "stream-free": Verdict.FASTER}
    found = {one.candidate: one for one in compared(*lines, steady(TWIN, 1.07))}
    assert found.keys() == {"torch", "stream-free"}
    assert (found["torch"].verdict, found["torch"].below_floor) == (Verdict.INCONCLUSIVE, True)
    assert (found["stream-free"].verdict, found["stream-free"].below_floor) == (Verdict.FASTER, False)
    assert [one.floor for one in found.values()] == pytest.approx([0.07, 0.07])
    # The interval stays what it was.
    assert found["torch"].comparison.interval is not None
    assert found["torch"].comparison.interval.low == pytest.approx(1.05)


@pytest.mark.parametrize("off", [1.016, 1 / 1.016])
def test_a_difference_has_to_matter_without_what_the_twin_shows_too(off: float) -> None:
    """A candidate 1 % slower, with a communicator as unlucky as the twin's, is 2.6 % slower in every round."""
    slight, clear = (1.01, 1.05) if off > 1 else (1 / 1.01, 1 / 1.05)
    verdict = Verdict.SLOWER if off > 1 else Verdict.FASTER
    lines = [steady(BASE), steady("torch", slight * off), steady("stream-free", clear * off)]
    assert verdicts(*lines) == {"torch": verdict, "stream-free": verdict}
    found = {one.candidate: (one.verdict, one.below_floor) for one in compared(*lines, steady(TWIN, off))}
    assert found == {"torch": (Verdict.INCONCLUSIVE, True), "stream-free": (verdict, False)}


def test_a_twin_that_is_lucky_at_one_size_does_not_make_a_verdict_there() -> None:
    sizes = [case(8 * 4**number) for number in range(8)]
    lines = [steady(BASE, case=size) for size in sizes] + [steady("torch", 1.04, case=size) for size in sizes]
    lucky = [steady(TWIN, 1.0 if number == 3 else 1.02, case=size) for number, size in enumerate(sizes)]
    assert [one.verdict for one in compared(*lines)] == [Verdict.SLOWER] * 8
    found = compared(*lines, *lucky)
    assert [one.verdict for one in found] == [Verdict.INCONCLUSIVE] * 8
    # What is luck in one kind of case says nothing about another.
    other = case(1024, collective="all_gather")
    (alone,) = compared(steady(BASE, case=other), steady("torch", 1.04, case=other), *lucky)
    assert alone.verdict is Verdict.SLOWER


@pytest.mark.parametrize("luck", [0.005, 0.01, 0.02])
@pytest.mark.parametrize("lasting", [True, False])
def test_arms_that_differ_by_the_luck_of_their_communicators_alone_are_seldom_told_apart(
    luck: float, lasting: bool
) -> None:
    """``lasting`` luck is a communicator's for all sizes; else each case draws anew."""
    rng = np.random.default_rng(5)
    runs, alarms = 60, 0
    for _ in range(runs):
        lives = {arm: rng.normal(0, luck) for arm in (BASE, TWIN, "torch")}
        lines = [
            samples(
                arm,
                case=case(8 * 4**number),
                samples_us=tuple(10 * np.exp((life if lasting else rng.normal(0, luck)) + rng.normal(0, 0.004, 20))),
            )
            for number in range(12)
            for arm, life in lives.items()
        ]
        alarms += any(one.verdict in (Verdict.FASTER, Verdict.SLOWER) for one in compared(*lines))
    assert alarms <= runs * FAMILYWISE_ERROR + 4 * math.sqrt(runs * FAMILYWISE_ERROR)


@pytest.mark.parametrize(("twin", "floor"), [(0.93, 0.07), (1.07, 0.07), (1.0, 0.0)])
def test_the_twin_may_be_off_in_either_direction(twin: float, floor: float) -> None:
    (found,) = compared(steady(BASE), steady("torch", 1.05), steady(TWIN, twin))
    assert found.floor == pytest.approx(floor)
    assert found.below_floor is (floor > 0.05)


def test_a_twin_that_varies_is_a_floor_as_high_as_its_interval() -> None:
    """Its median is exact, but how exact the rounds do not tell."""
    (found,) = compared(steady(BASE), steady("torch", 1.05), steady(TWIN, spread=0.1))
    assert found.floor == pytest.approx(0.1)
    assert found.verdict is Verdict.INCONCLUSIVE


def test_sameness_within_the_threshold_needs_a_floor_below_the_threshold() -> None:
    same = [steady(BASE), steady("torch", 1.001)]
    assert verdicts(*same) == {"torch": Verdict.EQUIVALENT}
    # The difference is far below this floor, and a floor below the threshold says nothing against sameness.
    assert verdicts(*same, steady(TWIN, 1.015)) == {"torch": Verdict.EQUIVALENT}
    (found,) = compared(*same, steady(TWIN, 1.03))
    assert (found.verdict, found.below_floor) == (Verdict.INCONCLUSIVE, True)


def test_a_twin_of_few_rounds_is_as_bad_as_the_worst_of_them() -> None:
    twin = samples(TWIN, rounds=(0, 1), samples_us=(10.0, 10.8))
    (found,) = compared(steady(BASE), steady("torch", 1.05), twin)
    assert found.floor == pytest.approx(0.08)
    assert found.below_floor


def test_a_twin_is_a_floor_in_its_own_case_and_timing_alone() -> None:
    lines = [steady(arm, ratio, case=case(size)) for size in (8, 16) for arm, ratio in ((BASE, 1.0), ("torch", 1.05))]
    found = compared(*lines, steady(TWIN, 1.2, case=case(8)), steady(TWIN, 1.2, case=case(16), timing=Timing.EAGER))
    assert [(one.floor, one.verdict) for one in found] == [
        (pytest.approx(0.2), Verdict.INCONCLUSIVE),
        (None, Verdict.SLOWER),
    ]


def test_a_twin_that_is_as_noisy_as_the_arm_seldom_lets_a_false_difference_pass() -> None:
    """Every communicator has a luck of its own, of 3 %: rounds do not average it out, so only the twin tells."""
    rng = np.random.default_rng(11)
    told = {True: 0, False: 0}
    for _ in range(300):
        luck = np.exp(rng.normal(0, 0.03, 3))
        noise = np.exp(rng.normal(0, 0.003, (3, 20)))
        lines = [
            samples(arm, samples_us=tuple((10 * luck[index] * noise[index]).tolist()))
            for index, arm in enumerate((BASE, "torch", TWIN))
        ]
        for with_twin in told:
            (found,) = compared(*lines[: 3 if with_twin else 2])
            told[with_twin] += found.verdict in (Verdict.FASTER, Verdict.SLOWER)
    # One of three, by symmetry: which of two lucky ones is farther from the baseline.
    assert told[True] < 0.75 * told[False]
    assert told[False] > 100


def test_baseline_and_candidates_may_be_chosen() -> None:
    lines = [steady(BASE), steady("torch", 2.0), steady("stream-free", 0.5), steady(twin_of("torch"), 2.2)]
    (found,) = compared(*lines, baseline="torch", candidates=["stream-free"])
    assert (found.baseline, found.candidate, found.verdict) == ("torch", "stream-free", Verdict.FASTER)
    assert found.comparison.ratio == pytest.approx(0.25)
    # The chosen baseline's own twin.
    assert found.floor == pytest.approx(0.1)
    assert [one.candidate for one in compared(*lines, baseline="torch")] == [BASE, "stream-free"]
    assert [one.candidate for one in compared(*lines, candidates=["torch", "stream-free"])] == ["torch", "stream-free"]
    assert compared(*lines, baseline="nobody") == compared(*lines, candidates=["nobody"]) == []


def test_the_threshold_is_that_of_the_case_and_timing() -> None:
    lines = [
        steady(arm, ratio, case=case(size), timing=timing)
        for size in (8, 1024)
        for timing in (Timing.EAGER, Timing.GATED)
        for arm, ratio in ((BASE, 1.0), ("torch", 1.04))
    ]
    limits = [{"threshold": 0.1, "sizes": ":512", "timings": ["eager"]}]
    found = of_run(run(lines, threshold=0.03, limits=limits))
    assert [(one.case.size_bytes, one.timing, one.comparison.threshold, one.verdict) for one in found] == [
        (8, "eager", 0.1, Verdict.EQUIVALENT),
        (8, "gated", 0.03, Verdict.SLOWER),
        (1024, "eager", 0.03, Verdict.SLOWER),
        (1024, "gated", 0.03, Verdict.SLOWER),
    ]
    # A run that was made before there were thresholds.
    assert {one.comparison.threshold for one in of_run(run(lines))} == {0.02}


@pytest.mark.parametrize(
    "config", [{"threshold": "much"}, {"threshold": 3}, {"limits": [{"sizes": "8"}]}, {"limits": 3}]
)
def test_a_run_with_thresholds_that_are_none_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(RecordError, match=r"^the run made-up cannot be judged: .+"):
        of_run(run([steady(BASE), steady("torch")], **config))
