"""Comparisons of the arms of one run: pairs of the same round, above the noise floor."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Comparison, OpenReason
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


def test_a_difference_below_the_noise_floor_has_no_verdict() -> None:
    lines = [steady(BASE), steady("torch", 1.05), steady("stream-free", 0.5)]
    assert verdicts(*lines) == {"torch": Verdict.SLOWER, "stream-free": Verdict.FASTER}
    comparisons = {each.candidate: each for each in compared(*lines, steady(TWIN, 1.07))}
    assert comparisons.keys() == {"torch", "stream-free"}
    assert (comparisons["torch"].verdict, comparisons["torch"].reason) == (
        Verdict.INCONCLUSIVE,
        OpenReason.WITHIN_NOISE,
    )
    assert (comparisons["stream-free"].verdict, comparisons["stream-free"].reason) == (Verdict.FASTER, None)
    # The interval stays the same.
    assert comparisons["torch"].interval is not None
    assert comparisons["torch"].interval.low == pytest.approx(1.05)


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize(("beyond", "decided"), [(1.001, True), (0.999, False)])
def test_the_noise_floor_in_the_record_decides(down: bool, beyond: float, decided: bool) -> None:
    """The interval must lie beyond the threshold after its ratios moved towards 1 by the noise floor."""
    (comparison,) = compared(steady(BASE), steady("torch"), steady(TWIN, 1.01))
    assert comparison.noise_floor is not None
    ratio = (0.98 / beyond if down else 1.02 * beyond) * (1 + comparison.noise_floor) ** (-1 if down else 1)
    (comparison,) = compared(steady(BASE), steady("torch", ratio), steady(TWIN, 1.01))
    verdict = Verdict.FASTER if down else Verdict.SLOWER
    assert comparison.verdict is (verdict if decided else Verdict.INCONCLUSIVE)
    # The ratio is far beyond the noise floor, so its direction is sure.
    assert comparison.reason is (None if decided else OpenReason.BELOW_THRESHOLD)


def test_the_variance_of_one_kind_of_case_says_nothing_about_another() -> None:
    sizes = [case(8 * 4**number) for number in range(8)]
    twins = [steady(arm, ratio, case=size) for size in sizes for arm, ratio in ((BASE, 1.0), (TWIN, 1.05))]
    other = case(1024, collective="all_gather")
    steadily = [steady(BASE, case=other), steady("torch", 1.04, case=other), steady(TWIN, case=other)]
    (alone,) = compared(*steadily, *twins)
    assert alone.verdict is Verdict.SLOWER
    # It does not even say that the variance there is small.
    (alone,) = compared(*steadily[:2], *twins)
    assert (alone.verdict, alone.noise_floor, alone.reason) == (Verdict.INCONCLUSIVE, None, OpenReason.NO_TWIN)


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


def test_equivalent_needs_a_floor_of_at_most_the_threshold() -> None:
    same = [steady(BASE), steady("torch", 1.015)]
    for twin in (1.0, 1.003, 1.008):
        (comparison,) = compared(*same, steady(TWIN, twin))
        assert comparison.noise_floor is not None
        equivalent = comparison.noise_floor <= 0.02
        assert equivalent is (twin < 1.008)
        assert (comparison.verdict, comparison.reason) == (
            (Verdict.EQUIVALENT, None) if equivalent else (Verdict.INCONCLUSIVE, OpenReason.WITHIN_NOISE)
        )


def test_with_one_size_the_twin_seldom_allows_a_false_alarm() -> None:
    """Every communicator deviates by 3 %, so ratios by 4 %. Rounds do not average that out, only the twin shows it."""
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
    # A twin without any deviation would allow many false alarms.
    assert exact / tries > 0.3


def test_baseline_and_candidates_may_be_chosen() -> None:
    lines = [steady(BASE), steady("torch", 2.0), steady("stream-free", 0.5), steady(twin_of("torch"), 2.01)]
    (comparison,) = compared(*lines, baseline="torch", candidates=["stream-free"])
    assert (comparison.baseline, comparison.candidate, comparison.verdict) == ("torch", "stream-free", Verdict.FASTER)
    assert comparison.ratio == pytest.approx(0.25)
    assert [each.candidate for each in compared(*lines, baseline="torch")] == [BASE, "stream-free"]
    assert [each.candidate for each in compared(*lines, candidates=["torch", "stream-free"])] == [
        "torch",
        "stream-free",
    ]
    # The floor comes from the twin of the chosen baseline; without it, from the run's other twin.
    floors = [each.noise_floor for each in (comparison, *compared(*lines))]
    assert floors == [floors[0]] * 3
    (both,) = compared(*lines, steady(TWIN, 1.03), baseline="torch", candidates=["stream-free"])
    assert both.noise_floor == floors[0]
    (of_base,) = compared(*lines, steady(TWIN, 1.03), candidates=["stream-free"])
    assert of_base.noise_floor is not None
    assert floors[0] is not None
    assert of_base.noise_floor > 2 * floors[0]
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
