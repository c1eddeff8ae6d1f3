"""Bands: which sizes share one, and the verdict of each, on planted ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.bands import Band, OpenReason, bands_of
from nccl_bench.analysis.cells import LAUNCH_STRIDE, Cell
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Basis
from nccl_bench.analysis.judging import nearer
from nccl_bench.analysis.one_run import compare_arms
from nccl_bench.analysis.statistics import Interval, Verdict, verdict_of
from nccl_bench.analysis.two_sides import compare_sides
from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limit, Limits
from nccl_bench.records.run import Run
from tests.support.synthetic_comparisons import comparison
from tests.support.synthetic_runs import case

BASE, NEW = "dedicated-stream", "stream-free"
TWIN = twin_of(BASE)
TWO_PERCENT = Limits(default=0.02)
FASTER, SLOWER, EQUIVALENT, INCONCLUSIVE = Verdict
REFERENCE_RUNS = Path(__file__).parents[3] / "results"

Shown = list[tuple[Verdict | None, OpenReason | None, int]]


def planted(
    ratios: Sequence[float | None],
    *,
    rounds: int = 15,
    noise: float = 0.004,
    variance: float = 0.002,
    launches: int = 1,
    twin: bool = True,
    seed: int = 1,
    process_sets: Mapping[str, int] | None = None,
    timing: Timing = Timing.GRAPH,
) -> ComparableRun:
    """Return a run with these true ratios by size; ``None``: the candidate lacks the size.

    Rounds vary by ``noise``, and each communicator deviates at each size of each launch by ``variance``.
    """
    rng = np.random.default_rng(seed)
    cells: dict[Cell, dict[int, float]] = {}
    for number, ratio in enumerate(ratios):
        for arm, of_arm in ((BASE, 1.0), (NEW, ratio), *([(TWIN, 1.0)] if twin else [])):
            for launch in range(launches):
                times = 10 * (of_arm or 0) * np.exp(rng.normal(0, variance) + rng.normal(0, noise, rounds))
                keyed = {launch * LAUNCH_STRIDE + index: time for index, time in enumerate(times.tolist())}
                if of_arm is not None:
                    cells.setdefault((case(8 * 2**number), timing, arm), {}).update(keyed)
    return ComparableRun(name="run", arms=(BASE, NEW), cells=cells, process_sets=process_sets or {})


def bands(run: ComparableRun, limits: Limits = TWO_PERCENT) -> tuple[Band, ...]:
    return bands_of(compare_arms(run, limits))


def shown(of_run: Sequence[Band]) -> Shown:
    """Return the verdict, the reason and the number of sizes of each band."""
    return [(band.verdict, band.reason, len(band.comparisons)) for band in of_run]


def test_equal_arms_share_one_band_with_a_narrow_interval() -> None:
    run = planted([1.0] * 20, variance=0.006)
    (band,) = bands(run)
    assert shown([band]) == [(EQUIVALENT, None, 20)]
    assert band.interval is not None
    half_widths = [each.interval.half_width for each in compare_arms(run, TWO_PERCENT) if each.interval]
    assert band.interval.half_width < min(half_widths) / 2
    assert band.noise_floor is not None
    assert band.noise_floor < min(each.noise_floor or 0 for each in band.comparisons)
    assert band.ratio == pytest.approx(1.0, abs=0.003)


def test_a_jump_divides_two_bands_at_the_right_size() -> None:
    assert shown(bands(planted([0.9] * 9 + [1.0] * 11))) == [(FASTER, None, 9), (EQUIVALENT, None, 11)]
    assert shown(bands(planted([1.0] * 12 + [1.06] * 3))) == [(EQUIVALENT, None, 12), (SLOWER, None, 3)]


def test_faster_sizes_with_different_ratios_share_a_band_whose_interval_spans_them() -> None:
    (faster, same) = bands(planted([0.7 + 0.01 * number for number in range(18)] + [1.0] * 6))
    assert shown([faster, same]) == [(FASTER, None, 18), (EQUIVALENT, None, 6)]
    assert faster.interval is not None
    assert faster.interval.low < 0.74
    assert faster.interval.high > 0.83
    assert faster.direction is FASTER
    assert same.direction is None


def test_interval_and_noise_floor_of_a_band_explain_its_verdict() -> None:
    # The last size alone has a larger noise floor than the twelve sizes that are nearer to 1.
    (band,) = bands(planted([0.962] * 12 + [0.9], variance=0.006))
    assert band.verdict is FASTER
    assert verdict_of(nearer(band.interval, band.noise_floor), 0.02) is FASTER


@pytest.mark.parametrize("ratio", [1.05, 0.95, 1.2])
@pytest.mark.parametrize("place", [0, 7, 19])
def test_one_size_that_differs_is_never_hidden(ratio: float, place: int) -> None:
    ratios = [1.0] * 20
    ratios[place] = ratio
    of_run = bands(planted(ratios))
    (alone,) = (band for band in of_run if band.verdict is not EQUIVALENT)
    assert [each.case.size_bytes for each in alone.comparisons] == [8 * 2**place]
    assert alone.verdict is (SLOWER if ratio > 1 else FASTER)


@pytest.mark.parametrize("ratio", [1.07, 0.93])
def test_one_size_that_differs_leaves_its_band_although_its_own_verdict_is_open(ratio: float) -> None:
    ratios = [1.0] * 20
    ratios[7] = ratio
    run = planted(ratios, rounds=30, noise=0.03)
    assert {each.verdict for each in compare_arms(run, TWO_PERCENT)} == {INCONCLUSIVE}
    before, alone, after = bands(run)
    assert shown([before, after]) == [(EQUIVALENT, None, 7), (EQUIVALENT, None, 12)]
    assert [each.case.size_bytes for each in alone.comparisons] == [8 * 2**7]
    assert alone.verdict is not EQUIVALENT


def test_sizes_that_differ_only_by_noise_stay_in_their_band() -> None:
    of_runs = [shown(bands(planted([1.0] * 20, rounds=30, noise=0.03, seed=seed))) for seed in range(40)]
    assert of_runs.count([(EQUIVALENT, None, 20)]) >= 0.9 * len(of_runs)


@pytest.mark.parametrize("ratio", [1.1, 0.91])
def test_one_size_leaves_its_band_although_its_own_few_rounds_scatter_much(ratio: float) -> None:
    ratios = [1.0] * 28
    ratios[13] = ratio
    of_runs = [bands(planted(ratios, rounds=10, noise=0.03, seed=seed)) for seed in range(10)]
    of_size = [next(band for band in run if band.comparisons[-1].case.size_bytes >= 8 * 2**13) for run in of_runs]
    assert sum(len(band.comparisons) == 1 and band.verdict is not EQUIVALENT for band in of_size) >= 8


@pytest.mark.parametrize(("noise", "rounds"), [(0.03, 30), (0.004, 15)])
def test_a_band_says_how_far_one_size_alone_can_be_off(noise: float, rounds: int) -> None:
    def same(ratio: float) -> list[Band]:
        """Return the bands called the same, of 20 runs with one size that has ``ratio``."""
        of_runs = [
            bands(planted([1.0] * 13 + [ratio] + [1.0] * 14, rounds=rounds, noise=noise, seed=seed))
            for seed in range(20)
        ]
        return [band for of_run in of_runs for band in of_run if band.verdict is EQUIVALENT]

    def hides(band: Band) -> bool:
        return any(each.case.size_bytes == 8 * 2**13 for each in band.comparisons)

    stated = median(band.hidden_change or 0 for band in same(1.0))
    assert 0.02 < stated < 0.2
    assert sum(map(hides, same(1 + stated))) <= 1
    # A third of that change is nearly always hidden, so the stated change is not too large.
    assert sum(map(hides, same(1 + stated / 3))) >= 15


def test_a_clear_verdict_hides_no_size_that_contradicts_it() -> None:
    faster, same, alone = bands(planted([0.7] * 9 + [1.0] * 11 + [1.3]))
    assert (faster.hidden_change, alone.hidden_change) == (None, None)
    assert same.hidden_change is not None


@pytest.mark.parametrize("usual", [0.9, 1.1])
def test_an_equal_size_among_faster_or_slower_ones_is_never_hidden(usual: float) -> None:
    of_run = bands(planted([usual] * 6 + [1.0] + [usual] * 6))
    decided = FASTER if usual < 1 else SLOWER
    assert [(band.verdict, len(band.comparisons)) for band in of_run if band.verdict is decided] == [(decided, 6)] * 2
    assert len(of_run[1].comparisons) == 1


def test_sizes_that_are_open_alone_are_decided_together() -> None:
    run = planted([1.0] * 14, rounds=5)
    comparisons = compare_arms(run, TWO_PERCENT)
    assert {(each.verdict, each.reason) for each in comparisons} == {(INCONCLUSIVE, OpenReason.TOO_FEW_ROUNDS)}
    assert shown(bands_of(comparisons)) == [(EQUIVALENT, None, 14)]


def test_an_open_band_has_its_reason() -> None:
    def only(run: ComparableRun) -> tuple[Verdict | None, OpenReason | None, Verdict | None]:
        (band,) = bands(run)
        return band.verdict, band.reason, band.direction

    assert only(planted([1.022] * 9)) == (INCONCLUSIVE, OpenReason.BELOW_THRESHOLD, SLOWER)
    assert only(planted([0.978] * 9)) == (INCONCLUSIVE, OpenReason.BELOW_THRESHOLD, FASTER)
    assert only(planted([1.0] * 9, variance=0.05)) == (INCONCLUSIVE, OpenReason.WITHIN_NOISE, None)
    assert only(planted([1.1], rounds=3)) == (INCONCLUSIVE, OpenReason.TOO_FEW_ROUNDS, None)
    assert only(planted([1.1] * 9, twin=False)) == (INCONCLUSIVE, OpenReason.NO_TWIN, None)
    apart = planted([1.1] * 9, process_sets={BASE: 0, NEW: 1, TWIN: 2}, timing=Timing.EAGER)
    assert only(apart) == (INCONCLUSIVE, OpenReason.DIFFERENT_PROCESSES, None)
    lost = planted([1.1], launches=1)
    (few,) = bands(planted([1.1], rounds=3))
    assert few.pairs_needed == 6
    assert lost.cells


def test_one_launch_of_several_is_a_reason_of_its_own() -> None:
    other = {(replace(cell[0], collective="all_gather"), *cell[1:]): of for cell, of in planted([1.1]).cells.items()}
    several = planted([1.1] * 3, launches=5)
    joined = replace(several, cells={**several.cells, **other})
    reasons = {band.comparisons[0].case.collective: band.reason for band in bands(joined)}
    assert reasons == {"all_reduce": None, "all_gather": OpenReason.ONE_LAUNCH}


def test_without_a_twin_opposite_directions_do_not_share_a_band() -> None:
    of_run = bands(planted([0.8] * 5 + [1.2] * 5, twin=False))
    assert shown(of_run) == [(INCONCLUSIVE, OpenReason.NO_TWIN, 5)] * 2


def test_one_size_is_a_band() -> None:
    assert shown(bands(planted([0.8]))) == [(FASTER, None, 1)]


def test_no_band_has_two_thresholds() -> None:
    limits = Limits(default=0.02, bands=(Limit(threshold=0.08, most_bytes=64),))
    of_run = bands(planted([1.05] * 9), limits)
    assert [(band.threshold, *row) for band, row in zip(of_run, shown(of_run), strict=True)] == [
        (0.08, EQUIVALENT, None, 4),
        (0.02, SLOWER, None, 5),
    ]


def test_a_band_ends_where_a_size_is_missing() -> None:
    run = planted([1.0] * 4 + [None] + [1.0] * 5)
    assert shown(bands(run)) == [(EQUIVALENT, None, 9)]
    # Another arm has the size, so it belongs to the sweep.
    other = {(case, timing, "torch"): of for (case, timing, arm), of in run.cells.items() if arm == BASE}
    both = replace(run, arms=(*run.arms, "torch"), cells={**run.cells, **other})
    assert [shown([band])[0][2] for band in bands(both)] == [4, 5, 10]
    # All sizes of the two bands are judged together.
    first, second, _ = bands(both)
    assert first.interval == second.interval


def test_several_launches_make_bands_without_a_noise_floor() -> None:
    of_run = bands(planted([0.9] * 6 + [1.0] * 8, launches=5, rounds=6))
    assert shown(of_run) == [(FASTER, None, 6), (EQUIVALENT, None, 8)]
    assert {band.noise_floor for band in of_run} == {None}


@pytest.mark.parametrize("launches", [1, 4])
def test_two_sides_make_bands(launches: int) -> None:
    before = planted([0.7] * 14, launches=launches, seed=1)
    after = planted([0.7] * 8 + [0.77] * 6, launches=launches, seed=2)
    sides = compare_sides([before], [after], TWO_PERCENT, arms=(NEW, NEW), shared_arm=BASE)
    assert sides.basis is (Basis.SHARED_ARM if launches == 1 else Basis.RUNS)
    same, slower = bands_of(sides.comparisons)
    assert shown([same, slower]) == [(EQUIVALENT, None, 8), (SLOWER, None, 6)]
    assert slower.ratio == pytest.approx(1.1, abs=0.01)


def test_sides_without_a_basis_have_one_band_without_a_verdict() -> None:
    sides = compare_sides([planted([0.7] * 5)], [planted([0.7] * 5)], TWO_PERCENT, arms=(NEW, BASE))
    assert sides.basis is Basis.NOTHING
    (band,) = bands_of(sides.comparisons)
    assert (band.verdict, band.reason, band.interval, len(band.comparisons)) == (None, None, None, 5)
    assert band.ratio == pytest.approx(1 / 0.7, rel=0.01)


def test_comparisons_without_evidence_keep_their_verdicts() -> None:
    cells = [comparison(size, verdict) for size, verdict in ((8, FASTER), (32, EQUIVALENT), (16, FASTER))]
    assert shown(bands_of(cells)) == [(FASTER, None, 2), (EQUIVALENT, None, 1)]
    assert bands_of([]) == ()


def test_the_interval_of_a_band_counts_all_its_errors() -> None:
    cells = [comparison(size, FASTER, ratio) for size, ratio in ((8, 0.7), (16, 0.8))]
    (band,) = bands_of(cells)
    assert band.interval == Interval(low=0.7 / 1.01, high=0.8 * 1.01, error=0.1)
    assert band.ratios == (0.7, 0.8)


@pytest.mark.parametrize("name", ["h200-x2-before", "h200-x2-after", "h200-x2-all-reduce"])
def test_a_run_on_quiet_gpus_has_few_bands_and_few_open_sizes(name: str) -> None:
    analysis = Analysis.of(Run.load(REFERENCE_RUNS / name))
    by_arm = {arm: [band for band in analysis.bands if band.candidate == arm] for arm in ("stream-free", "torch-async")}
    assert max(map(len, by_arm.values())) <= 8
    sizes = sum(len(band.comparisons) for band in analysis.bands)
    still_open = sum(len(band.comparisons) for band in analysis.bands if band.verdict is INCONCLUSIVE)
    assert (sizes, still_open < 0.1 * sizes) == (336, True)
    graph = [band for band in by_arm["stream-free"] if band.timing is Timing.GRAPH]
    assert (graph[0].verdict, len(graph[0].comparisons), graph[-1].verdict) == (FASTER, 21, EQUIVALENT)
