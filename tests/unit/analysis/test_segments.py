import math
import random
from collections.abc import Sequence
from itertools import combinations, pairwise
from statistics import fmean

from nccl_bench.analysis.segments import Series, segments


def test_segments_are_the_cheapest_of_all_cuts_for_series_of_any_length() -> None:
    noise = random.Random(1)
    series = [_series(noise, length) for length in (1, 2, 3, 8, 8, 7, 1, 8)]
    assert segments(series) == [_cheapest(each) for each in series]


def test_no_series_has_no_segments() -> None:
    assert segments([]) == []


def _series(noise: random.Random, length: int) -> Series:
    deviations = [noise.uniform(0.5, 2) for _ in range(length)]
    values = [noise.gauss(0, deviation) + 20 * (index > 3) for index, deviation in enumerate(deviations)]
    return Series(values=values, deviations=deviations)


def _cheapest(series: Series) -> list[tuple[int, int]]:
    length = len(series.values)
    cuts = [cut for number in range(length) for cut in combinations(range(1, length), number)]
    best = min(cuts, key=lambda cut: _cost(series, [*pairwise((0, *cut, length))]))
    return [*pairwise((0, *best, length))]


def _cost(series: Series, parts: Sequence[tuple[int, int]]) -> float:
    cost = len(parts) * 4 * math.log(max(2, len(series.values)))
    for first, after in parts:
        values, weights = series.values[first:after], [each**-2 for each in series.deviations[first:after]]
        mean = fmean(values, weights)
        cost += sum(weight * (value - mean) ** 2 for value, weight in zip(values, weights, strict=True))
    return cost
