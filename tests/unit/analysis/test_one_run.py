"""The arms of one run against its baseline, over pairs of the same round, above the noise floor."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.one_run import compare_arms
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Verdict, pairs_needed
from nccl_bench.catalog.arms import TWIN_SUFFIX, twin_of
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits
from nccl_bench.errors import RecordError
from nccl_bench.records.schema import Line, Samples, Skipped, Status
from tests.support.synthetic_runs import case, crash, run, samples, wrong

BASE = "dedicated-stream"
TWIN = twin_of(BASE)


TWO_PERCENT = Limits(default=0.02)


def steady(arm: str, ratio: float = 1.0, rounds: int = 20, spread: float = 0.0, **changes: object) -> Samples:
    """Times around 10 us times ``ratio``: as often too high by ``spread`` as too low."""
    return samples(
        arm, samples_us=tuple(10 * ratio * (1 + spread) ** (-1) ** number for number in range(rounds)), **changes
    )


def compared(*lines: Line, **arguments: object) -> tuple[Comparison, ...]:
    """With a twin that is exactly like the baseline, where ``lines`` have none."""
    if not any(isinstance(line, Samples) and line.arm.endswith(TWIN_SUFFIX) for line in lines):
        lines += tuple(replace(line, arm=TWIN) for line in lines if isinstance(line, Samples) and line.arm == BASE)
    return without_twin(*lines, **arguments)


def without_twin(*lines: Line, **arguments: object) -> tuple[Comparison, ...]:
    return compare_arms(ComparableRun.of(run(lines), "run"), TWO_PERCENT, **arguments)  # type: ignore[arg-type]


def verdicts(*lines: Line) -> dict[str, Verdict]:
    return {each.candidate: each.verdict for each in compared(*lines)}


def test_every_arm_is_compared_with_the_baseline_in_the_order_measured() -> None:
    lines = [
        steady(arm, ratio, case=case(size), timing=timing)
        for size in (1024, 8)
        for timing in (Timing.GATED, Timing.EAGER)
        for arm, ratio in ((BASE, 1.0), ("torch", 1.5), ("stream-free", 0.5), ("torch-async", 1.0))
    ]
    found = compared(*lines)
    assert [(each.case.size_bytes, each.timing) for each in found[::3]] == [
        (size, timing) for size in (1024, 8) for timing in (Timing.GATED, Timing.EAGER)
    ]
    # The order of the run's own arms; one of them is in no line.
    assert [(each.candidate, each.baseline, each.verdict) for each in found[:3]] == [
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
    assert found.ratio == pytest.approx(1.1)
    assert found.interval is not None
    assert found.interval.low == pytest.approx(1.1)


def test_a_round_that_one_of_the_two_lacks_is_no_pair() -> None:
    base = samples(BASE, rounds=(0, 1, 2, 3, 4, 6, 7), samples_us=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0))
    arm = samples("torch", rounds=(1, 2, 3, 4, 5, 6, 7, 9), samples_us=(2.0, 2.0, 2.0, 2.0, 99.0, 2.0, 2.0, 99.0))
    (found,) = compared(base, arm)
    assert found.ratio == pytest.approx(2.0)
    assert found.interval is not None
    assert found.interval.high == 2.0


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
    assert compared(*lines) == ()


def test_a_wrong_line_spoils_its_own_arm_alone() -> None:
    assert verdicts(steady(BASE), wrong(arm="torch"), steady("stream-free", 0.5)) == {"stream-free": Verdict.FASTER}
    # As one whose outputs were wrong after it was timed, so that it has times.
    for late in (BASE, "torch"):
        lines = [
            replace(line, status=Status.WRONG) if line.arm == late else line for line in (steady(BASE), steady("torch"))
        ]
        assert compared(*lines) == ()


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
    assert {each.verdict for each in found} == {Verdict.INCONCLUSIVE}
    assert found[0].interval is None
    assert found[0].pairs_needed == pairs_needed(FAMILYWISE_ERROR / 101)


def test_a_difference_below_the_twin_s_is_not_told() -> None:
    lines = [steady(BASE), steady("torch", 1.05), steady("stream-free", 0.78)]
    assert verdicts(*lines) == {"torch": Verdict.SLOWER, "stream-free": Verdict.FASTER}
    found = {each.candidate: each for each in compared(*lines, steady(TWIN, 1.07))}
    assert found.keys() == {"torch", "stream-free"}
    assert (found["torch"].verdict, found["torch"].below_floor) == (Verdict.INCONCLUSIVE, True)
    assert (found["stream-free"].verdict, found["stream-free"].below_floor) == (Verdict.FASTER, False)
    assert [each.noise_floor for each in found.values()] == pytest.approx([0.07, 0.07])
    # The interval stays what it was.
    assert found["torch"].interval is not None
    assert found["torch"].interval.low == pytest.approx(1.05)


@pytest.mark.parametrize("off", [1.016, 1 / 1.016])
def test_a_difference_has_to_matter_without_what_the_twin_shows_too(off: float) -> None:
    """A candidate 1 % slower, with a communicator as unlucky as the twin's, is 2.6 % slower in every round."""
    slight, clear = (1.01, 1.06) if off > 1 else (1 / 1.01, 1 / 1.06)
    verdict = Verdict.SLOWER if off > 1 else Verdict.FASTER
    lines = [steady(BASE), steady("torch", slight * off), steady("stream-free", clear * off)]
    assert verdicts(*lines) == {"torch": verdict, "stream-free": verdict}
    found = {each.candidate: (each.verdict, each.below_floor) for each in compared(*lines, steady(TWIN, off))}
    assert found == {"torch": (Verdict.INCONCLUSIVE, True), "stream-free": (verdict, False)}


def test_a_twin_that_is_lucky_at_one_size_does_not_make_a_verdict_there() -> None:
    sizes = [case(8 * 4**number) for number in range(8)]
    lines = [steady(BASE, case=size) for size in sizes] + [steady("torch", 1.04, case=size) for size in sizes]
    lucky = [steady(TWIN, 1.0 if number == 3 else 1.02, case=size) for number, size in enumerate(sizes)]
    assert [each.verdict for each in compared(*lines)] == [Verdict.SLOWER] * 8
    found = compared(*lines, *lucky)
    assert [each.verdict for each in found] == [Verdict.INCONCLUSIVE] * 8
    # What is luck in one kind of case says nothing about another.
    other = case(1024, collective="all_gather")
    steadily = [steady(BASE, case=other), steady("torch", 1.04, case=other), steady(TWIN, case=other)]
    (alone,) = compared(*steadily, *lucky)
    assert alone.verdict is Verdict.SLOWER
    # Not even that it is small.
    (alone,) = compared(*steadily[:2], *lucky)
    assert (alone.verdict, alone.noise_floor) == (Verdict.INCONCLUSIVE, None)


# By the luck of a communicator: how often two arms that differ by nothing else are told apart at one size or more.
TOLD_APART = [
    (0.005, False, 0.005),
    (0.005, True, 0.005),
    (0.01, False, 0.005),
    (0.01, True, 0.01),
    (0.02, False, 0.01),
    (0.02, True, 0.05),
    (0.05, False, 0.04),
    (0.05, True, 0.12),
]


@pytest.mark.parametrize(("luck", "lasting", "claim"), TOLD_APART)
def test_arms_that_differ_by_the_luck_of_their_communicators_alone_are_seldom_told_apart(
    luck: float, lasting: bool, claim: float
) -> None:
    """``lasting`` luck is a communicator's for all sizes; else each case draws anew."""
    rng = np.random.default_rng(5)
    runs, alarms = 150, 0
    for _ in range(runs):
        lives = {arm: rng.normal(0, luck) for arm in (BASE, TWIN, "torch")}
        lines = [
            samples(
                arm,
                case=case(8 * 4**number),
                samples_us=tuple(10 * np.exp((life if lasting else rng.normal(0, luck)) + rng.normal(0, 0.004, 20))),
            )
            for number in range(14)
            for arm, life in lives.items()
        ]
        alarms += any(each.verdict in (Verdict.FASTER, Verdict.SLOWER) for each in compared(*lines))
    assert alarms / runs <= claim + 3 * math.sqrt(claim * (1 - claim) / runs)


def test_without_a_twin_nothing_is_told() -> None:
    lines = [steady(BASE), steady("torch", 3.0), steady("stream-free", 0.3), steady("torch-async")]
    open_anyway = steady("transport", spread=0.3)
    assert set(verdicts(*lines).values()) == {Verdict.SLOWER, Verdict.FASTER, Verdict.EQUIVALENT}
    found = without_twin(*lines, open_anyway, candidates=["torch", "stream-free", "torch-async", "transport"])
    assert [(each.verdict, each.noise_floor) for each in found] == [(Verdict.INCONCLUSIVE, None)] * 4
    # What had no verdict is not withheld.
    assert [each.below_floor for each in found] == [True, True, True, False]
    # The rounds tell what they did.
    assert [each.ratio for each in found[:2]] == pytest.approx([3.0, 0.3])


@pytest.mark.parametrize("ratio", [0.1, 10.0])
def test_ten_times_is_above_a_floor_of_less_than_ten_times(ratio: float) -> None:
    verdict = Verdict.FASTER if ratio < 1 else Verdict.SLOWER
    lines = [steady(BASE), steady("torch", ratio)]
    for spread, told in ((8.9, verdict), (9.1, Verdict.INCONCLUSIVE)):
        (found,) = compared(*lines, steady(TWIN, spread=spread))
        assert (found.noise_floor, found.verdict) == (pytest.approx(spread), told)


@pytest.mark.parametrize("rounds", [(10.0,) * 12 + (5.0,) * 8, (10.0,) * 12 + (20.0,) * 8])
def test_a_twin_off_by_a_factor_is_a_floor_up_and_down(rounds: tuple[float, ...]) -> None:
    """Its median is exact, its interval reaches to twice or half the time."""
    lines = [steady(BASE), samples(TWIN, samples_us=rounds)]
    for ratio, told in ((1.9, Verdict.INCONCLUSIVE), (2.1, Verdict.SLOWER)):
        (found,) = compared(*lines, steady("torch", ratio))
        assert (found.noise_floor, found.verdict) == (pytest.approx(1.0), told)
        (found,) = compared(*lines, steady("torch", 1 / ratio))
        told = Verdict.FASTER if told is Verdict.SLOWER else told
        assert (found.noise_floor, found.verdict) == (pytest.approx(1.0), told)


@pytest.mark.parametrize(("twin", "floor"), [(1 / 1.07, 0.07), (1.07, 0.07), (1.0, 0.0)])
def test_the_twin_may_be_off_in_either_direction(twin: float, floor: float) -> None:
    (found,) = compared(steady(BASE), steady("torch", 1.05), steady(TWIN, twin))
    assert found.noise_floor == pytest.approx(floor)
    assert found.below_floor is (floor > 0.05)


def test_a_twin_that_varies_is_a_floor_as_high_as_its_interval() -> None:
    """Its median is exact, but how exact the rounds do not tell."""
    (found,) = compared(steady(BASE), steady("torch", 1.05), steady(TWIN, spread=0.1))
    assert found.noise_floor == pytest.approx(0.1)
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
    assert found.noise_floor == pytest.approx(0.08)
    assert found.below_floor


def test_a_twin_is_a_floor_in_its_own_case_and_in_its_own_timing_what_is_usual() -> None:
    lines = [steady(arm, ratio, case=case(size)) for size in (8, 16) for arm, ratio in ((BASE, 1.0), ("torch", 1.06))]
    found = compared(*lines, steady(TWIN, 1.01, case=case(8)), steady(TWIN, 1.2, case=case(16), timing=Timing.EAGER))
    assert [(each.noise_floor, each.verdict) for each in found] == [
        (pytest.approx(0.01), Verdict.SLOWER),
        (pytest.approx(1.01**3 - 1), Verdict.SLOWER),
    ]
    found = compared(*lines, steady(TWIN, 1.2, case=case(8)))
    assert [(each.noise_floor, each.verdict) for each in found] == [
        (pytest.approx(0.2), Verdict.INCONCLUSIVE),
        (pytest.approx(1.2**3 - 1), Verdict.INCONCLUSIVE),
    ]


def test_at_one_size_alone_the_twin_seldom_lets_luck_pass() -> None:
    """Every communicator has a luck of its own, of 3 %: rounds do not average it out, so only the twin tells."""
    rng = np.random.default_rng(11)
    tries, alarms, exact = 300, 0, 0
    for _ in range(tries):
        times = 10 * np.exp(rng.normal(0, 0.03, (3, 1)) + rng.normal(0, 0.003, (3, 20)))
        base, arm, twin = (
            samples(name, samples_us=tuple(row))
            for name, row in zip((BASE, "torch", TWIN), times.tolist(), strict=True)
        )
        for lines in ((base, arm, twin), (base, arm)):
            (found,) = compared(*lines)
            told = found.verdict in (Verdict.FASTER, Verdict.SLOWER)
            alarms, exact = alarms + (told and twin in lines), exact + (told and twin not in lines)
    # Without all that a single draw of luck tells how much of it there is, which is little.
    assert alarms / tries <= 0.10 + 3 * math.sqrt(0.10 * 0.90 / tries)
    # Against a twin that had no luck, and so told nothing of it.
    assert exact / tries > 0.5


def test_baseline_and_candidates_may_be_chosen() -> None:
    lines = [steady(BASE), steady("torch", 2.0), steady("stream-free", 0.5), steady(twin_of("torch"), 2.2)]
    (found,) = compared(*lines, baseline="torch", candidates=["stream-free"])
    assert (found.baseline, found.candidate, found.verdict) == ("torch", "stream-free", Verdict.FASTER)
    assert found.ratio == pytest.approx(0.25)
    # The chosen baseline's own twin.
    assert found.noise_floor == pytest.approx(0.1)
    assert [each.candidate for each in compared(*lines, baseline="torch")] == [BASE, "stream-free"]
    assert [each.candidate for each in compared(*lines, candidates=["torch", "stream-free"])] == [
        "torch",
        "stream-free",
    ]
    # Or the run's, of whatever arm.
    assert [(each.verdict, each.noise_floor) for each in compared(*lines)] == [
        (Verdict.FASTER, pytest.approx(0.1)),
        (Verdict.SLOWER, pytest.approx(0.1)),
    ]
    both = compared(*lines, steady(TWIN, 1.03), baseline="torch", candidates=["stream-free"])
    assert [each.noise_floor for each in both] == pytest.approx([0.1])
    assert compared(*lines, baseline="nobody") == compared(*lines, candidates=["nobody"]) == ()


def test_the_threshold_is_that_of_the_case_and_timing() -> None:
    lines = [
        steady(arm, ratio, case=case(size), timing=timing)
        for size in (8, 1024)
        for timing in (Timing.EAGER, Timing.GATED)
        for arm, ratio in ((BASE, 1.0), ("torch", 1.04))
    ]
    limits = [{"threshold": 0.1, "sizes": ":512", "timings": ["eager"]}]
    lines += [replace(line, arm=TWIN) for line in lines if line.arm == BASE]
    found = Analysis.of(run(lines, threshold=0.03, limits=limits)).comparisons
    assert [(each.case.size_bytes, each.timing, each.threshold, each.verdict) for each in found] == [
        (8, "eager", 0.1, Verdict.EQUIVALENT),
        (8, "gated", 0.03, Verdict.SLOWER),
        (1024, "eager", 0.03, Verdict.SLOWER),
        (1024, "gated", 0.03, Verdict.SLOWER),
    ]
    # A run that was made before there were thresholds.
    assert {each.threshold for each in Analysis.of(run(lines)).comparisons} == {0.02}


@pytest.mark.parametrize(
    "config", [{"threshold": "much"}, {"threshold": 3}, {"limits": [{"sizes": "8"}]}, {"limits": 3}]
)
def test_a_run_with_thresholds_that_are_none_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(RecordError, match=r"^the run made-up cannot be judged: .+"):
        Analysis.of(run([steady(BASE), steady("torch")], **config))
