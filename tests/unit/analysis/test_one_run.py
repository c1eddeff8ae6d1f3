"""Comparisons of the arms of one run: pairs of the same round, above the noise floor."""

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
    """Return times around 10 us times ``ratio``, alternately higher and lower by ``spread``."""
    return samples(
        arm, samples_us=tuple(10 * ratio * (1 + spread) ** (-1) ** number for number in range(rounds)), **changes
    )


def compared(*lines: Line, **arguments: object) -> tuple[Comparison, ...]:
    """Compare ``lines``, to which a twin exactly like the baseline is added if they have none."""
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
    comparisons = compared(*lines)
    assert [(each.case.size_bytes, each.timing) for each in comparisons[::3]] == [
        (size, timing) for size in (1024, 8) for timing in (Timing.GATED, Timing.EAGER)
    ]
    # The order is that of the run's arms. One of these arms was not measured.
    assert [(each.candidate, each.baseline, each.verdict) for each in comparisons[:3]] == [
        ("stream-free", BASE, Verdict.FASTER),
        ("torch", BASE, Verdict.SLOWER),
        ("torch-async", BASE, Verdict.EQUIVALENT),
    ]
    assert len(comparisons) == 12


def test_pairs_are_of_the_same_round() -> None:
    """The machine slows down a hundredfold during the run, and the arm's rounds are recorded in another order."""
    rounds = tuple(range(12))
    base = samples(BASE, rounds=rounds, samples_us=tuple(10.0 * 1.5**number for number in rounds))
    arm = samples("torch", rounds=rounds[::-1], samples_us=tuple(11.0 * 1.5**number for number in rounds[::-1]))
    (comparison,) = compared(base, arm)
    assert comparison.verdict is Verdict.SLOWER
    assert comparison.ratio == pytest.approx(1.1)
    assert comparison.interval is not None
    assert comparison.interval.low == pytest.approx(1.1)


def test_a_round_without_both_arms_is_no_pair() -> None:
    base = samples(BASE, rounds=(0, 1, 2, 3, 4, 6, 7), samples_us=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0))
    arm = samples("torch", rounds=(1, 2, 3, 4, 5, 6, 7, 9), samples_us=(2.0, 2.0, 2.0, 2.0, 99.0, 2.0, 2.0, 99.0))
    (comparison,) = compared(base, arm)
    assert comparison.ratio == pytest.approx(2.0)
    assert comparison.interval is not None
    assert comparison.interval.high == 2.0


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
def test_cells_without_a_common_round_are_not_compared(lines: list[Line]) -> None:
    assert compared(*lines) == ()


def test_a_wrong_result_excludes_only_its_own_arm() -> None:
    assert verdicts(steady(BASE), wrong(arm="torch"), steady("stream-free", 0.5)) == {"stream-free": Verdict.FASTER}
    # An arm that was wrong only after it was timed has times.
    for late in (BASE, "torch"):
        lines = [
            replace(line, status=Status.WRONG) if line.arm == late else line for line in (steady(BASE), steady("torch"))
        ]
        assert compared(*lines) == ()


def test_all_comparisons_of_a_run_share_the_error() -> None:
    """A difference that is clear alone needs more rounds beside a hundred unclear ones."""
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
    comparisons = compared(*clear, *rest)
    assert {each.verdict for each in comparisons} == {Verdict.INCONCLUSIVE}
    assert comparisons[0].interval is None
    assert comparisons[0].pairs_needed == pairs_needed(FAMILYWISE_ERROR / 101)


def test_a_difference_below_the_twin_s_has_no_verdict() -> None:
    lines = [steady(BASE), steady("torch", 1.05), steady("stream-free", 0.78)]
    assert verdicts(*lines) == {"torch": Verdict.SLOWER, "stream-free": Verdict.FASTER}
    comparisons = {each.candidate: each for each in compared(*lines, steady(TWIN, 1.07))}
    assert comparisons.keys() == {"torch", "stream-free"}
    assert (comparisons["torch"].verdict, comparisons["torch"].below_floor) == (Verdict.INCONCLUSIVE, True)
    assert (comparisons["stream-free"].verdict, comparisons["stream-free"].below_floor) == (Verdict.FASTER, False)
    assert [each.noise_floor for each in comparisons.values()] == pytest.approx([0.07, 0.07])
    # The interval stays the same.
    assert comparisons["torch"].interval is not None
    assert comparisons["torch"].interval.low == pytest.approx(1.05)


@pytest.mark.parametrize("off", [1.016, 1 / 1.016])
def test_a_difference_must_matter_after_the_usual_variance_is_taken_off(off: float) -> None:
    """A candidate that is 1 % slower, with a communicator as slow as the twin's, is 2.6 % slower in every round."""
    slight, clear = (1.01, 1.06) if off > 1 else (1 / 1.01, 1 / 1.06)
    verdict = Verdict.SLOWER if off > 1 else Verdict.FASTER
    lines = [steady(BASE), steady("torch", slight * off), steady("stream-free", clear * off)]
    assert verdicts(*lines) == {"torch": verdict, "stream-free": verdict}
    comparisons = {each.candidate: (each.verdict, each.below_floor) for each in compared(*lines, steady(TWIN, off))}
    assert comparisons == {"torch": (Verdict.INCONCLUSIVE, True), "stream-free": (verdict, False)}


def test_a_twin_that_is_close_at_one_size_by_chance_allows_no_verdict_there() -> None:
    sizes = [case(8 * 4**number) for number in range(8)]
    lines = [steady(BASE, case=size) for size in sizes] + [steady("torch", 1.04, case=size) for size in sizes]
    by_chance = [steady(TWIN, 1.0 if number == 3 else 1.02, case=size) for number, size in enumerate(sizes)]
    assert [each.verdict for each in compared(*lines)] == [Verdict.SLOWER] * 8
    comparisons = compared(*lines, *by_chance)
    assert [each.verdict for each in comparisons] == [Verdict.INCONCLUSIVE] * 8
    # The variance of one kind of case says nothing about another kind.
    other = case(1024, collective="all_gather")
    steadily = [steady(BASE, case=other), steady("torch", 1.04, case=other), steady(TWIN, case=other)]
    (alone,) = compared(*steadily, *by_chance)
    assert alone.verdict is Verdict.SLOWER
    # It does not even say that the variance there is small.
    (alone,) = compared(*steadily[:2], *by_chance)
    assert (alone.verdict, alone.noise_floor) == (Verdict.INCONCLUSIVE, None)


def test_without_a_twin_there_is_no_verdict() -> None:
    lines = [steady(BASE), steady("torch", 3.0), steady("stream-free", 0.3), steady("torch-async")]
    open_anyway = steady("transport", spread=0.3)
    assert set(verdicts(*lines).values()) == {Verdict.SLOWER, Verdict.FASTER, Verdict.EQUIVALENT}
    comparisons = without_twin(*lines, open_anyway, candidates=["torch", "stream-free", "torch-async", "transport"])
    assert [(each.verdict, each.noise_floor) for each in comparisons] == [(Verdict.INCONCLUSIVE, None)] * 4
    # A comparison that was inconclusive anyway is not below the floor.
    assert [each.below_floor for each in comparisons] == [True, True, True, False]
    # The ratios are there.
    assert [each.ratio for each in comparisons[:2]] == pytest.approx([3.0, 0.3])


@pytest.mark.parametrize("ratio", [0.1, 10.0])
def test_a_tenfold_difference_exceeds_a_floor_below_ten(ratio: float) -> None:
    verdict = Verdict.FASTER if ratio < 1 else Verdict.SLOWER
    lines = [steady(BASE), steady("torch", ratio)]
    for spread, expected in ((8.9, verdict), (9.1, Verdict.INCONCLUSIVE)):
        (comparison,) = compared(*lines, steady(TWIN, spread=spread))
        assert (comparison.noise_floor, comparison.verdict) == (pytest.approx(spread), expected)


@pytest.mark.parametrize("rounds", [(10.0,) * 12 + (5.0,) * 8, (10.0,) * 12 + (20.0,) * 8])
def test_a_twin_off_by_a_factor_is_a_floor_up_and_down(rounds: tuple[float, ...]) -> None:
    """The twin's median is 1, and its interval reaches to twice or half the time."""
    lines = [steady(BASE), samples(TWIN, samples_us=rounds)]
    for ratio, expected in ((1.9, Verdict.INCONCLUSIVE), (2.1, Verdict.SLOWER)):
        (comparison,) = compared(*lines, steady("torch", ratio))
        assert (comparison.noise_floor, comparison.verdict) == (pytest.approx(1.0), expected)
        (comparison,) = compared(*lines, steady("torch", 1 / ratio))
        expected = Verdict.FASTER if expected is Verdict.SLOWER else expected
        assert (comparison.noise_floor, comparison.verdict) == (pytest.approx(1.0), expected)


@pytest.mark.parametrize(("twin", "floor"), [(1 / 1.07, 0.07), (1.07, 0.07), (1.0, 0.0)])
def test_the_twin_may_be_off_in_either_direction(twin: float, floor: float) -> None:
    (comparison,) = compared(steady(BASE), steady("torch", 1.05), steady(TWIN, twin))
    assert comparison.noise_floor == pytest.approx(floor)
    assert comparison.below_floor is (floor > 0.05)


def test_a_twin_that_varies_is_a_floor_as_high_as_its_interval() -> None:
    """The twin's median is 1, but its rounds vary."""
    (comparison,) = compared(steady(BASE), steady("torch", 1.05), steady(TWIN, spread=0.1))
    assert comparison.noise_floor == pytest.approx(0.1)
    assert comparison.verdict is Verdict.INCONCLUSIVE


def test_equivalent_needs_a_floor_below_the_threshold() -> None:
    same = [steady(BASE), steady("torch", 1.001)]
    assert verdicts(*same) == {"torch": Verdict.EQUIVALENT}
    # The difference is below this floor, and the floor is below the threshold.
    assert verdicts(*same, steady(TWIN, 1.015)) == {"torch": Verdict.EQUIVALENT}
    (comparison,) = compared(*same, steady(TWIN, 1.03))
    assert (comparison.verdict, comparison.below_floor) == (Verdict.INCONCLUSIVE, True)


def test_a_twin_with_few_rounds_counts_with_the_worst_of_them() -> None:
    twin = samples(TWIN, rounds=(0, 1), samples_us=(10.0, 10.8))
    (comparison,) = compared(steady(BASE), steady("torch", 1.05), twin)
    assert comparison.noise_floor == pytest.approx(0.08)
    assert comparison.below_floor


def test_a_twin_is_the_floor_of_its_own_case_and_the_usual_floor_of_other_sizes() -> None:
    lines = [steady(arm, ratio, case=case(size)) for size in (8, 16) for arm, ratio in ((BASE, 1.0), ("torch", 1.06))]
    comparisons = compared(
        *lines, steady(TWIN, 1.01, case=case(8)), steady(TWIN, 1.2, case=case(16), timing=Timing.EAGER)
    )
    assert [(each.noise_floor, each.verdict) for each in comparisons] == [
        (pytest.approx(0.01), Verdict.SLOWER),
        (pytest.approx(1.01**3 - 1), Verdict.SLOWER),
    ]
    comparisons = compared(*lines, steady(TWIN, 1.2, case=case(8)))
    assert [(each.noise_floor, each.verdict) for each in comparisons] == [
        (pytest.approx(0.2), Verdict.INCONCLUSIVE),
        (pytest.approx(1.2**3 - 1), Verdict.INCONCLUSIVE),
    ]


def test_with_one_size_the_twin_seldom_allows_a_false_alarm() -> None:
    """Every communicator deviates by 3 %. Rounds do not average that out, and only the twin shows it."""
    rng = np.random.default_rng(11)
    tries, alarms, exact = 300, 0, 0
    for _ in range(tries):
        times = 10 * np.exp(rng.normal(0, 0.03, (3, 1)) + rng.normal(0, 0.003, (3, 20)))
        base, arm, twin = (
            samples(name, samples_us=tuple(row))
            for name, row in zip((BASE, "torch", TWIN), times.tolist(), strict=True)
        )
        for lines in ((base, arm, twin), (base, arm)):
            (comparison,) = compared(*lines)
            decided = comparison.verdict in (Verdict.FASTER, Verdict.SLOWER)
            alarms, exact = alarms + (decided and twin in lines), exact + (decided and twin not in lines)
    # One twin at one size is a poor measure of the variance.
    assert alarms / tries <= 0.10 + 3 * math.sqrt(0.10 * 0.90 / tries)
    # A twin without any deviation would allow most of the false alarms.
    assert exact / tries > 0.5


def test_baseline_and_candidates_may_be_chosen() -> None:
    lines = [steady(BASE), steady("torch", 2.0), steady("stream-free", 0.5), steady(twin_of("torch"), 2.2)]
    (comparison,) = compared(*lines, baseline="torch", candidates=["stream-free"])
    assert (comparison.baseline, comparison.candidate, comparison.verdict) == ("torch", "stream-free", Verdict.FASTER)
    assert comparison.ratio == pytest.approx(0.25)
    # The floor comes from the twin of the chosen baseline.
    assert comparison.noise_floor == pytest.approx(0.1)
    assert [each.candidate for each in compared(*lines, baseline="torch")] == [BASE, "stream-free"]
    assert [each.candidate for each in compared(*lines, candidates=["torch", "stream-free"])] == [
        "torch",
        "stream-free",
    ]
    # Without a twin of the baseline, it comes from the run's other twin.
    assert [(each.verdict, each.noise_floor) for each in compared(*lines)] == [
        (Verdict.FASTER, pytest.approx(0.1)),
        (Verdict.SLOWER, pytest.approx(0.1)),
    ]
    both = compared(*lines, steady(TWIN, 1.03), baseline="torch", candidates=["stream-free"])
    assert [each.noise_floor for each in both] == pytest.approx([0.1])
    assert compared(*lines, baseline="nobody") == compared(*lines, candidates=["nobody"]) == ()


def test_the_threshold_depends_on_case_and_timing() -> None:
    lines = [
        steady(arm, ratio, case=case(size), timing=timing)
        for size in (8, 1024)
        for timing in (Timing.EAGER, Timing.GATED)
        for arm, ratio in ((BASE, 1.0), ("torch", 1.04))
    ]
    limits = [{"threshold": 0.1, "sizes": ":512", "timings": ["eager"]}]
    lines += [replace(line, arm=TWIN) for line in lines if line.arm == BASE]
    comparisons = Analysis.of(run(lines, threshold=0.03, limits=limits)).comparisons
    assert [(each.case.size_bytes, each.timing, each.threshold, each.verdict) for each in comparisons] == [
        (8, "eager", 0.1, Verdict.EQUIVALENT),
        (8, "gated", 0.03, Verdict.SLOWER),
        (1024, "eager", 0.03, Verdict.SLOWER),
        (1024, "gated", 0.03, Verdict.SLOWER),
    ]
    # This run is older than recorded thresholds.
    assert {each.threshold for each in Analysis.of(run(lines)).comparisons} == {0.02}


@pytest.mark.parametrize(
    "config", [{"threshold": "much"}, {"threshold": 3}, {"limits": [{"sizes": "8"}]}, {"limits": 3}]
)
def test_a_run_with_malformed_thresholds_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(RecordError, match=r"^the run made-up cannot be judged: .+"):
        Analysis.of(run([steady(BASE), steady("torch")], **config))
