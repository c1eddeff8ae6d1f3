"""Rank sums of samples by predecessor, for the test of carry-over. numpy computes the sums of many lines at once.

A stratum is a line of samples with one of its predecessors: the arm that was measured right before it in a round.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nccl_bench.analysis.indexes import round_codes, starts_of
from nccl_bench.records.columns import SampleColumns
from nccl_bench.records.run import Run

# The machine drifts, so a time is divided by the median of the arm's times around it: this many on either side.
_NEIGHBOURS = 2
# This many lines of samples are computed at once. More lines would need more memory and save no time.
_LINES = 20_000
# More arms than any round has. Ignore the predecessor of an arm after this many others in a round.
_MOST_ARMS = 1_000
# A table with this many rows takes little memory.
_LEAST_ROWS = 1_000_000
_Floats = NDArray[np.float64]
_Integers = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSums:
    """The strata of a run, as columns: entry i of every column is about the stratum i."""

    samples: SampleColumns  # the lines of samples that have the order of arms
    line: _Integers  # the line, as an index of `samples`
    predecessor: _Integers  # the predecessor, as a code of `samples.arm`
    surplus: _Floats  # the rank sum of the times after the predecessor, minus its expectation, weighted
    variance: _Floats  # the variance of `surplus`
    relative: NDArray[np.float32]  # the logarithms of all times of `samples`, relative to the rounds around each time
    predecessors: NDArray[np.int32]  # the predecessor of each of these times, -1 for none

    def times(self, line: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return the relative times of a line, an index of ``samples``, and the predecessor of each, -1 for none."""
        start, end = self.samples.samples_us.ends[line : line + 2]
        return self.relative[start:end], self.predecessors[start:end]


def rank_sums(run: Run) -> RankSums:
    """Return the strata of ``run``. Records before schema 5 lack the order of arms, so they have no strata."""
    samples = run.samples.take(run.samples.arms_before.lengths > 0)
    relative = np.empty(len(samples.samples_us.numbers), dtype=np.float32)
    predecessors = np.empty(len(relative), dtype=np.int32)
    parts: list[tuple[_Integers, _Integers, _Floats, _Floats]] = []
    for lines, groups in _blocks(samples):
        places_of_block = samples.samples_us.flat_places(lines)
        times_us = samples.samples_us.take(lines)
        of_times = _predecessors(samples, lines, groups)
        predecessors[places_of_block] = of_times
        for rows in times_us.of_equal_length():
            places = times_us.places(rows)
            values = _relative(np.log(times_us.numbers[places]))
            relative[places_of_block[places]] = values
            for index, present, surplus, variance in _strata(values, of_times[places], len(samples.arm.values)):
                parts.append((lines[rows[present]], np.full(len(present), index, dtype=np.int32), surplus, variance))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] or [np.empty(0)] * 4
    return RankSums(
        samples=samples,
        line=columns[0].astype(np.intp, copy=False),
        predecessor=columns[1].astype(np.int32, copy=False),
        surplus=columns[2],
        variance=columns[3],
        relative=relative,
        predecessors=predecessors,
    )


def _blocks(samples: SampleColumns) -> Iterator[tuple[_Integers, _Integers]]:
    """Yield lines, and for each line the number of its group: its case and timing in its launch.

    All lines of a group are in one block.
    """
    _, launches = np.unique(samples.launch, return_inverse=True)
    _, groups = np.unique(samples.point * (launches.max(initial=0) + 1) + launches, return_inverse=True)
    order = np.argsort(groups, kind="stable")
    starts = starts_of(groups[order])
    # The first group of each block.
    _, first = np.unique(starts // _LINES, return_index=True)
    for lines in np.split(order, starts[first][1:]):
        if len(lines):
            yield lines, groups[lines] - groups[lines[0]]


def _predecessors(samples: SampleColumns, lines: _Integers, groups: _Integers) -> NDArray[np.int32]:
    """Return the predecessor of each time of ``lines`` as a code of ``samples.arm``, -1 for none.

    The first arm of a round has no predecessor: between rounds the ranks may combine their samples. The predecessor of
    other times can be unknown too, because its batch was discarded.
    """
    lengths = samples.samples_us.lengths[lines]
    codes, count = round_codes(samples.rounds.take(lines))
    # A number for each round of each case and timing in each launch.
    rounds = np.repeat(groups, lengths) * count + codes.numbers
    if rounds.max(initial=0) > _LEAST_ROWS + 4 * len(rounds):
        # Most of these numbers are of no round, so give the existing rounds the numbers 0, 1, 2, ...
        _, rounds = np.unique(rounds, return_inverse=True)
    before = samples.arms_before.take(lines).numbers.clip(0, _MOST_ARMS)
    # The arm at each place of each round; place 0 is before the first arm.
    at_place = np.full((rounds.max(initial=0) + 1, before.max(initial=0) + 2), -1, dtype=np.int32)
    at_place[rounds, before + 1] = np.repeat(samples.arm.codes[lines], lengths)
    predecessors: NDArray[np.int32] = at_place[rounds, before]
    return predecessors


def _relative(logarithms: _Floats) -> _Floats:
    """Return each value minus the median of its neighbours in the same row."""
    rounds = logarithms.shape[1]
    relative = np.zeros_like(logarithms)
    inner = range(_NEIGHBOURS, max(_NEIGHBOURS, rounds - _NEIGHBOURS))
    for index in range(rounds):
        around = [at for at in range(index - _NEIGHBOURS, index + _NEIGHBOURS + 1) if 0 <= at < rounds and at != index]
        if around and index not in inner:
            ordered = np.sort(logarithms[:, around], axis=1)
            middle = (ordered[:, (len(around) - 1) // 2] + ordered[:, len(around) // 2]) / 2
            relative[:, index] = logarithms[:, index] - middle
    if inner:
        first, second, third, fourth = (
            logarithms[:, inner.start + offset : inner.stop + offset] for offset in (-2, -1, 1, 2)
        )
        # Find the two middle values of four; sorting would take several times as long.
        lower = np.maximum(np.minimum(first, second), np.minimum(third, fourth))
        upper = np.minimum(np.maximum(first, second), np.maximum(third, fourth))
        relative[:, inner.start : inner.stop] = logarithms[:, inner.start : inner.stop] - (lower + upper) / 2
    return relative


def _strata(values: _Floats, predecessors: _Integers, arms: int) -> Iterator[tuple[int, _Integers, _Floats, _Floats]]:
    """Yield each predecessor with rows, their surpluses and their variances.

    Such a row has times after this predecessor, and times after other arms.
    """
    known = predecessors >= 0
    count = known.sum(axis=1)
    ranks, ties = _ranks(np.where(known, values, np.inf), count)
    surpluses = np.where(known, ranks - (count[:, None] + 1) / 2, 0.0)
    # Column 0 is for times without a predecessor. The surpluses are halves of whole numbers, so their sums are exact.
    shape = (len(values), arms + 1)
    places = (np.arange(len(values))[:, None] * shape[1] + predecessors + 1).ravel()
    counts = np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape)
    sums = np.bincount(places, surpluses.ravel(), shape[0] * shape[1]).reshape(shape)
    for index in range(arms):
        ours = counts[:, index + 1]
        (rows,) = np.nonzero((ours > 0) & (ours < count))
        if not len(rows):
            continue
        # Without this weight, a size with many rounds would count far more than the other sizes.
        weight = count[rows] + 1
        variance = ours[rows] * (count[rows] - ours[rows]) / 12 * (count[rows] + 1 - ties[rows])
        yield index, rows, sums[rows, index + 1] / weight, variance / weight**2


def _ranks(values: _Floats, count: _Integers) -> tuple[_Floats, _Floats]:
    """Return the ranks in each row, and the decrease of the variance by ties; ``count`` values of a row are finite."""
    order = np.argsort(values, axis=1, kind="stable")
    ranks = np.empty_like(values)
    np.put_along_axis(ranks, order, np.arange(1.0, values.shape[1] + 1)[None, :], axis=1)
    ties = np.zeros(len(values))
    ordered = np.take_along_axis(values, order, axis=1)
    tied = (ordered[:, 1:] == ordered[:, :-1]) & np.isfinite(ordered[:, 1:])
    for row in np.nonzero(tied.any(axis=1))[0]:
        finite = ordered[row, : count[row]].tolist()
        spans = {value: (bisect_left(finite, value), bisect_right(finite, value)) for value in finite}
        ranks[row] = [(sum(spans[value]) + 1) / 2 if value in spans else 0.0 for value in values[row].tolist()]
        among = count[row] * (count[row] - 1)
        ties[row] = sum((last - first) ** 3 - (last - first) for first, last in spans.values()) / among
    return ranks, ties
