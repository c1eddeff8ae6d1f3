"""Compute how the times of a cell spread over its rounds and ranks, for many cells at once with numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nccl_bench.records.columns import Indexes, SampleColumns

_Floats = NDArray[np.float64]
# The columns of the summary that describe the times of a cell.
SPREADS = (
    *("time_us", "min_us", "max_us", "q1_us", "q3_us"),
    # The slowest rank's time minus the fastest rank's time, median over rounds. The rank that was slowest in most
    # rounds; of several such ranks, the lowest. The share of the rounds in which this rank was slowest.
    *("rank_spread_us", "slowest_rank", "slowest_rank_share"),
)


def spreads_of(samples: SampleColumns) -> dict[str, _Floats]:
    """Return the spread of each line of ``samples``: columns of the summary, NaN without times."""
    columns = np.full((len(SPREADS), len(samples)), np.nan)
    # A matrix has lines with the same number of rounds. Either all of its lines or none have the times of ranks.
    for lines in samples.samples_us.of_equal_length():
        has_ranks = samples.slowest_rank.lengths[lines] > 0
        for of_ranks in (False, True):
            chosen = lines[has_ranks == of_ranks]
            for column, values in zip(columns, _spreads(samples, chosen, of_ranks), strict=False):
                column[chosen] = values
    return dict(zip(SPREADS, columns, strict=True))


def _spreads(samples: SampleColumns, lines: Indexes, of_ranks: bool) -> list[NDArray[Any]]:
    if not len(lines):
        return []
    samples_us = samples.samples_us.matrix(lines)
    ordered = np.sort(samples_us, axis=1)
    columns: list[NDArray[Any]] = [
        quartile(ordered, 2),
        ordered[:, 0],
        ordered[:, -1],
        quartile(ordered, 1),
        quartile(ordered, 3),
    ]
    if of_ranks:
        columns.append(quartile(np.sort(samples_us - samples.fastest_rank_us.matrix(lines), axis=1), 2))
        columns += _most_frequent(samples.slowest_rank.matrix(lines))
    return columns


def quartile(ordered: _Floats, number: int) -> _Floats:
    """Return a quartile of each row of sorted values, interpolated between two values. Quartile 2 is the median."""
    index, rest = divmod((ordered.shape[1] - 1) * number, 4)
    return (ordered[:, index] * (4 - rest) + ordered[:, index + 1] * rest) / 4 if rest else ordered[:, index]


def _most_frequent(ranks: NDArray[np.int64]) -> tuple[NDArray[np.int64], _Floats]:
    """Return the most frequent rank of each row and its share; of several ranks that are most frequent, the lowest."""
    ordered = np.sort(ranks, axis=1)
    places = np.arange(ordered.shape[1])
    is_first = np.diff(ordered, axis=1, prepend=ordered[:, :1] - 1) != 0
    # At each place, how often its rank has occurred so far. The most frequent rank has the largest count.
    counts = places - np.maximum.accumulate(np.where(is_first, places, 0), axis=1) + 1
    rows, at = np.arange(len(ordered)), counts.argmax(axis=1)
    return ordered[rows, at], counts[rows, at] / ordered.shape[1]
