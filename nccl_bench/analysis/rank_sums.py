"""Rank sums of samples by predecessor, for the test of carry-over; numpy computes those of many lines at once.

A stratum is a line of samples with one of its predecessors: the arm that was measured right before it in a round.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nccl_bench.analysis.comparable import Point
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples

# A time is taken relative to this many of the arm's times before it and as many after it, because the machine drifts.
_NEIGHBOURS = 2
# This many lines of samples are computed at once. More would only need more memory.
_LINES = 20_000
# A number of arms that no round reaches. Larger numbers in a record are taken as they are, but more slowly.
_MOST_ARMS = 1_000
_Floats = NDArray[np.float64]
_Integers = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSums:
    """The strata of a run, as columns: entry i of every column is about the stratum i."""

    lines: Sequence[Samples]  # the lines of samples
    arms: Sequence[str]  # the names of the arms
    line: _Integers  # the line, as an index of `lines`
    predecessor: _Integers  # the predecessor, as an index of `arms`
    surplus: _Floats  # how far the rank sum of the times after the predecessor is from its expectation, weighted
    variance: _Floats  # the variance of `surplus`
    blocks: Sequence[_Block]  # the times of all lines, in the order of `lines`

    def times(self, line: int) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
        """Return the relative times of a line, an index of ``lines``, and the predecessor of each, -1 for none."""
        block = self.blocks[bisect_right(self.blocks, line, key=lambda each: each.first) - 1]
        return block.relative[line - block.first], block.predecessors[line - block.first]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """The times of lines with equally many rounds, a row for each line."""

    first: int  # the first line, as an index of `RankSums.lines`
    relative: NDArray[np.float32]  # the logarithms of the times, relative to the rounds around
    predecessors: NDArray[np.int16]  # the predecessors, -1 for none


def rank_sums(run: Run) -> RankSums:
    """Return the strata of ``run``. Records before schema 5 lack the order of arms, so they have no strata."""
    indexes: dict[str, int] = {}
    for line in run.lines:
        if isinstance(line, Samples):
            indexes.setdefault(line.arm, len(indexes))
    lines: list[Samples] = []
    blocks: list[_Block] = []
    parts: list[tuple[_Integers, _Integers, _Floats, _Floats]] = []
    for batch, of_batch in _batches(run, indexes):
        values = _relative(np.log(np.array([line.samples_us for line in batch])))
        for index, present, surplus, variance in _strata(values, of_batch, len(indexes)):
            parts.append((present + len(lines), np.full(len(present), index), surplus, variance))
        relative, predecessors = values.astype(np.float32), of_batch.astype(np.int16)
        blocks.append(_Block(first=len(lines), relative=relative, predecessors=predecessors))
        lines += batch
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] or [np.empty(0)] * 4
    return RankSums(
        lines=lines,
        arms=tuple(indexes),
        line=columns[0].astype(np.intp),
        predecessor=columns[1].astype(np.intp),
        surplus=columns[2],
        variance=columns[3],
        blocks=blocks,
    )


def _batches(run: Run, indexes: Mapping[str, int]) -> Iterator[tuple[list[Samples], _Integers]]:
    """Yield lines with equally many rounds, and the predecessor of each of their times."""
    # By the number of arms and the number of rounds.
    pending: dict[tuple[int, int], list[list[Samples]]] = {}
    for group in _groups(run):
        first = group[0].rounds
        if not all(line.rounds is first or line.rounds == first for line in group):
            for line in group:
                yield [line], np.array([_predecessors_of(line, group, indexes)])
            continue
        shape = (len(group), len(first))
        groups = pending.setdefault(shape, [])
        groups.append(group)
        if len(groups) * len(group) >= _LINES:
            yield _joined(pending.pop(shape), indexes)
    for groups in pending.values():
        yield _joined(groups, indexes)


def _groups(run: Run) -> Iterator[list[Samples]]:
    """Yield the lines of each case and timing in each launch, if they have the order of arms."""
    groups: dict[tuple[Point, int], list[Samples]] = {}
    for line in run.lines:
        if isinstance(line, Samples) and line.arms_before:
            groups.setdefault(((line.case, line.timing), line.launch), []).append(line)
    yield from groups.values()


def _joined(groups: Sequence[list[Samples]], indexes: Mapping[str, int]) -> tuple[list[Samples], _Integers]:
    """Return the lines of ``groups``, which have the same rounds within a group, and the predecessors of their times.

    The first arm of a round has no predecessor: between rounds the ranks may combine their samples. The predecessor of
    other times can be unknown too, because its batch was discarded.
    """
    lines = [line for group in groups for line in group]
    before = np.array([[line.arms_before for line in group] for group in groups])
    if before.min() < 0 or before.max() > _MOST_ARMS:
        return lines, np.array([_predecessors_of(line, group, indexes) for group in groups for line in group])
    arms = np.array([[indexes[line.arm] for line in group] for group in groups])
    # The arm at each place of each round; place 0 is before the first arm.
    at_place = np.full((len(groups), int(before.max()) + 2, before.shape[2]), -1)
    np.put_along_axis(at_place, before + 1, arms[:, :, None], axis=1)
    return lines, np.take_along_axis(at_place, before, axis=1).reshape(len(lines), -1)


def _predecessors_of(line: Samples, group: Sequence[Samples], indexes: Mapping[str, int]) -> list[int]:
    arms = {
        (number, before): indexes[each.arm]
        for each in group
        for number, before in zip(each.rounds, each.arms_before, strict=True)
    }
    return [arms.get((number, before - 1), -1) for number, before in zip(line.rounds, line.arms_before, strict=True)]


def _relative(logarithms: _Floats) -> _Floats:
    """Return each value minus the median of the values around it in its row."""
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
        # Of four values, the two in the middle; this takes a fraction of the time of sorting.
        lower = np.maximum(np.minimum(first, second), np.minimum(third, fourth))
        upper = np.minimum(np.maximum(first, second), np.maximum(third, fourth))
        relative[:, inner.start : inner.stop] = logarithms[:, inner.start : inner.stop] - (lower + upper) / 2
    return relative


def _strata(values: _Floats, predecessors: _Integers, arms: int) -> Iterator[tuple[int, _Integers, _Floats, _Floats]]:
    """Yield each predecessor with its rows that have times after it and others, their surpluses and variances."""
    known = predecessors >= 0
    count = known.sum(axis=1)
    ranks, ties = _ranks(np.where(known, values, np.inf), count)
    surpluses = np.where(known, ranks - (count[:, None] + 1) / 2, 0.0)
    for index in range(arms):
        after = predecessors == index
        ours = after.sum(axis=1)
        (rows,) = np.nonzero((ours > 0) & (ours < count))
        if not len(rows):
            continue
        # Without this weight, a size with many rounds would outweigh all others.
        weight = count[rows] + 1
        variance = ours[rows] * (count[rows] - ours[rows]) / 12 * (count[rows] + 1 - ties[rows])
        yield index, rows, (surpluses * after).sum(axis=1)[rows] / weight, variance / weight**2


def _ranks(values: _Floats, count: _Integers) -> tuple[_Floats, _Floats]:
    """Return the ranks in each row, where ``count`` values are finite, and what ties take off from the variance."""
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
