"""The variation from launch to launch, on data with known truth: what cells learn from each other, and how safely."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.random import Generator
from scipy.special import gammaincinv

from nccl_bench.analysis.arm_pairs import compare_pairs
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.estimates import EstimateList, Medians, mean_ratios
from nccl_bench.analysis.statistics import Verdict, decisive_error
from nccl_bench.analysis.variation import Variation, moderated, pooled_variation
from nccl_bench.config.limits import Limits
from tests.support.synthetic_comparisons import arm_pairs
from tests.support.synthetic_runs import case

THRESHOLD = 0.02
# The standard deviation of each cell's ratio from launch to launch.
SPREADS: dict[str, Callable[[Generator, int], np.ndarray]] = {
    "alike": lambda rng, cells: np.full(cells, 0.004),
    "uniform": lambda rng, cells: rng.uniform(0.001, 0.015, cells),
    "a few large": lambda rng, cells: np.where(rng.random(cells) < 0.1, 0.015, 0.002),
}


def known(*variances: float, freedom: float = 4) -> list[Variation]:
    return [Variation(variance=each, freedom=freedom) for each in variances]


def compared(medians: np.ndarray, kinds: Sequence[int]) -> tuple[Comparison, ...]:
    """Compare cells by their launches' ``medians`` (logarithms): a row for each launch, a column for each cell."""
    cells = [Medians(kind=kind, sides=(np.exp(of).tolist(),)) for kind, of in zip(kinds, medians.T, strict=True)]
    estimates = EstimateList(mean_ratios(cells))
    pairs = arm_pairs([case(8 * number + 8) for number in range(len(cells))], estimates)
    return compare_pairs(pairs, Limits(default=THRESHOLD), Basis.LAUNCHES)


def test_the_variation_of_two_sides_is_pooled() -> None:
    assert pooled_variation([[1.0, 3.0], [5.0, 6.0, 7.0]]) == Variation(variance=4 / 3, freedom=3)
    assert pooled_variation([[1.0]]) == Variation(variance=0.0, freedom=0)


def test_a_cell_that_is_alone_in_its_kind_keeps_its_own_variation() -> None:
    assert moderated(known(1e-4, 4e-4), ["gated", "graph"]) == known(1e-4, 4e-4)
    # So do launches that agree to the last digit.
    assert moderated(known(0.0, 0.0), ["gated", "gated"]) == known(0.0, 0.0)


def alike(cells: int) -> list[float]:
    """Return estimates of one variance, 1e-5, from five launches each: the quantiles of their distribution."""
    return [1e-5 * float(gammaincinv(2, (number + 0.5) / cells)) / 2 for number in range(cells)]


def test_cells_that_vary_alike_learn_more_from_each_other_than_cells_that_do_not() -> None:
    variances = alike(14)
    first, *_, last = moderated(known(*variances), ["gated"] * 14)
    assert first.freedom > 4 + 6
    assert 2 * variances[0] < first.variance < 1e-5 < last.variance < 0.7 * variances[-1]
    # Estimates that differ less than those of one variance: the margin is 0, and the limit counts.
    close = moderated(known(*[0.9e-5, 1.1e-5] * 7), ["gated"] * 14)
    assert close[0].freedom == pytest.approx(4 + 13 * 4 / 3)
    different = moderated(known(*[1e-7, 1e-5, 1e-3] * 5), ["gated"] * 15)
    assert 4 < different[0].freedom < 5
    assert different[2].variance == pytest.approx(1e-3, rel=0.2)


def test_a_cell_with_one_launch_gets_the_usual_variation_of_its_kind() -> None:
    alone, *_ = moderated([Variation(variance=0.0, freedom=0), *known(*alike(9))], ["gated"] * 10)
    assert alone.variance == pytest.approx(1e-5, rel=0.1)
    assert alone.freedom > 4
    # Without others of its kind nothing is known, so there is no interval.
    (estimate,) = mean_ratios([Medians(kind="graph", sides=([1.5],))])
    assert (estimate.interval(0.05), estimate.decisive_error(0.02), estimate.communicator_variance) == (None, 1.0, None)


@pytest.mark.parametrize("ratio", [0.9, 0.979, 0.995, 1.0, 1.019, 1.03, 1.5])
def test_the_decisive_error_is_that_of_the_widest_interval_with_a_verdict(ratio: float) -> None:
    (estimate,) = mean_ratios([Medians(kind="", sides=([ratio * factor for factor in (0.99, 1.0, 1.005, 1.01)],))])
    assert estimate.decisive_error(0.02) == pytest.approx(decisive_error(estimate.interval, 0.02), rel=2e-3)


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("shared", [0.0, 0.9], ids=["independent", "correlated"])
def test_verdicts_of_five_launches_are_right_and_find_five_percent(spread: str, shared: float) -> None:
    """26 cells of two kinds; with ``shared``, a launch moves all cells of a kind by nearly the same."""
    rng = np.random.default_rng(5)
    kinds, tries = [0] * 13 + [1] * 13, 40
    at_limit, false, slower, covered = 0, 0, 0, 0
    for _ in range(tries):
        scale = SPREADS[spread](rng, 26)
        common = np.repeat(rng.normal(size=(5, 2)), 13, axis=1)
        noise = scale * (math.sqrt(shared) * common + math.sqrt(1 - shared) * rng.normal(size=(5, 26)))
        false += any(each.verdict in (Verdict.FASTER, Verdict.SLOWER) for each in compared(noise, kinds))
        # No verdict but `equivalent` is right for a ratio at the limit.
        at_limit += any(
            each.verdict in (Verdict.FASTER, Verdict.SLOWER) for each in compared(noise + math.log(1.02), kinds)
        )
        slower += sum(each.verdict is Verdict.SLOWER for each in compared(noise + math.log(1.05), kinds))
        cells = mean_ratios(
            [Medians(kind=kind, sides=(np.exp(of).tolist(),)) for kind, of in zip(kinds, noise.T, strict=True)]
        )
        intervals = [estimate.interval(0.05) for estimate in cells]
        covered += sum(each is not None and each.low <= 1 <= each.high for each in intervals)
    assert false == 0
    # 5 % are allowed, and 3 standard deviations more in so few tries.
    assert at_limit / tries <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / tries)
    assert slower / (26 * tries) >= 0.95
    assert covered / (26 * tries) >= 0.91


@pytest.mark.parametrize("shared", [0.0, 0.9], ids=["independent", "correlated"])
def test_the_interval_of_a_band_is_right_and_is_narrow_if_its_sizes_deviate_on_their_own(shared: float) -> None:
    """Five launches of 20 sizes; with ``shared``, a launch moves all sizes by nearly the same."""
    rng = np.random.default_rng(3)
    tries, covered, narrow = 200, 0, 0
    for _ in range(tries):
        noise = math.sqrt(shared) * rng.normal(size=(5, 1)) + math.sqrt(1 - shared) * rng.normal(size=(5, 20))
        first, *more = mean_ratios([Medians(kind="", sides=(of,)) for of in np.exp(0.01 * noise).T.tolist()])
        of_size, of_band = first.interval(0.05), first.pooled(more).interval(0.05)
        assert of_size is not None
        assert of_band is not None
        covered += of_band.low <= 1 <= of_band.high
        narrow += of_band.half_width < of_size.half_width / 2
    assert covered / tries >= 0.93
    assert narrow > 0.8 * tries if shared == 0.0 else narrow == 0


def test_a_band_of_sizes_that_some_launches_lack_varies_like_one_size() -> None:
    sides = [[1.0, 1.01, 0.99, 1.02, 0.98], [1.01, 0.99, 1.0, 0.98, 1.02], [0.98, 1.01, 0.99, 1.02]]
    first, *more = mean_ratios([Medians(kind=number, sides=(of,)) for number, of in enumerate(sides)])
    complete, incomplete = first.pooled(more[:1]).interval(0.05), first.pooled(more).interval(0.05)
    assert complete is not None
    assert incomplete is not None
    assert complete.half_width < incomplete.half_width / 2
