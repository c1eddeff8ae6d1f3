"""Compute how the times of a cell spread over its rounds and ranks, for many cells at once with numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nccl_bench.records.schema import Line, Samples

# This many cells are computed at once. More would only need more memory.
_CELLS = 20_000
_Floats = NDArray[np.float64]


class Spread(NamedTuple):
    """The times of a cell over its rounds; the names are those of the columns of the summary."""

    time_us: float  # the median
    min_us: float  # the shortest time
    max_us: float  # the longest time
    q1_us: float  # the first quartile
    q3_us: float  # the third quartile
    # The median over rounds of the slowest rank's time minus the fastest rank's; None if only one of them is known.
    rank_spread_us: float | None = None
    slowest_rank: int | None = None  # the rank that was slowest in most rounds, of several the lowest
    slowest_rank_share: float | None = None  # the share of rounds in which it was the slowest


def spreads_of(lines: Sequence[Line]) -> list[Spread | None]:
    """Return the spread of each of ``lines``; ``None`` for a line without times."""
    # Lines with equally many rounds are the rows of a matrix, if all of them or none have the times of ranks.
    shapes: dict[tuple[int, int], list[int]] = {}
    for index, line in enumerate(lines):
        if isinstance(line, Samples) and line.samples_us:
            shapes.setdefault((len(line.samples_us), len(line.slowest_rank)), []).append(index)
    spreads: list[Spread | None] = [None] * len(lines)
    for indexes in shapes.values():
        for first in range(0, len(indexes), _CELLS):
            block = indexes[first : first + _CELLS]
            of_block = [line for index in block if isinstance(line := lines[index], Samples)]
            for index, spread in zip(block, _spreads(of_block), strict=True):
                spreads[index] = spread
    return spreads


def _spreads(lines: Sequence[Samples]) -> list[Spread]:
    samples_us = np.array([line.samples_us for line in lines], dtype=np.float64)
    ordered = np.sort(samples_us, axis=1)
    columns: list[NDArray[Any]] = [
        _quartile(ordered, 2),
        ordered[:, 0],
        ordered[:, -1],
        _quartile(ordered, 1),
        _quartile(ordered, 3),
    ]
    if lines[0].slowest_rank:
        fastest_us = np.array([line.fastest_rank_us for line in lines], dtype=np.float64)
        columns.append(_quartile(np.sort(samples_us - fastest_us, axis=1), 2))
        columns += _most_frequent(np.array([line.slowest_rank for line in lines]))
    return [Spread(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]


def _quartile(ordered: _Floats, number: int) -> _Floats:
    """Return a quartile of each row of values in order; quartile 2 is the median. Between two values: interpolated."""
    index, rest = divmod((ordered.shape[1] - 1) * number, 4)
    return (ordered[:, index] * (4 - rest) + ordered[:, index + 1] * rest) / 4 if rest else ordered[:, index]


def _most_frequent(ranks: NDArray[np.int64]) -> tuple[NDArray[np.int64], _Floats]:
    """Return the most frequent rank of each row, of several the lowest, and its share."""
    ordered = np.sort(ranks, axis=1)
    places = np.arange(ordered.shape[1])
    is_first = np.diff(ordered, axis=1, prepend=ordered[:, :1] - 1) != 0
    # How often each rank occurs up to its place: the largest count is that of the most frequent rank.
    counts = places - np.maximum.accumulate(np.where(is_first, places, 0), axis=1) + 1
    rows, at = np.arange(len(ordered)), counts.argmax(axis=1)
    return ordered[rows, at], counts[rows, at] / ordered.shape[1]
