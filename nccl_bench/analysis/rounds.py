"""The times of rounds in the order of measurement: they show whether the machine was steady."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.columns import ListColumn, SampleColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTimes:
    """The times of all arms in the rounds of one case and timing, or in some of the rounds."""

    case: Case  # the measured case
    timing: Timing  # the way of measuring
    count: int  # the number of rounds that were measured
    positions: tuple[int, ...]  # the position of each kept round among all rounds, from 0
    times_us: Mapping[str, tuple[float | None, ...]]  # arm -> its time in each kept round; None for no time


def round_times(samples: SampleColumns, arms: Collection[str], most: int) -> tuple[RoundTimes, ...]:
    """Return the times of ``arms``, in the order of measurement.

    If all rounds together have more than about ``most`` times, each case and timing keeps rounds at equal distances,
    and the shortest and the longest round of the arm that varies most.
    """
    timed = samples.take(samples.arm.equals(*arms) & samples.is_timed)
    each = max(2, most // len(timed)) if len(timed) else 0
    _, first, points = np.unique(timed.point, return_index=True, return_inverse=True)
    order = np.argsort(first[points], kind="stable")
    by_point = np.split(order, np.flatnonzero(np.diff(points[order])) + 1) if len(timed) else []
    lines = zip(
        *(column.to_list() for column in (timed.case, timed.timing, timed.arm, timed.rounds)),
        timed.samples_us.to_lists(),
        _extremes(timed.samples_us),
        strict=True,
    )
    all_lines = [_Line(*line) for line in lines]
    return tuple(_kept([all_lines[line] for line in of_point.tolist()], each) for of_point in by_point)


class _Line(NamedTuple):
    """The times of an arm in the rounds of a case and timing."""

    case: Case  # the measured case
    timing: Timing  # the way of measuring
    arm: str  # the arm
    rounds: Sequence[int]  # the number of each round
    samples_us: Sequence[float | None]  # the time of each round
    extremes: tuple[float, int, int]  # the longest time divided by the shortest, and the positions of both


def _kept(lines: Sequence[_Line], most: int) -> RoundTimes:
    """Return the rounds to keep of a case and timing; ``lines`` has a line for each arm."""
    columns, rounds = [line.samples_us for line in lines], lines[0].rounds
    varying = max(lines, key=lambda line: line.extremes)
    _, *extremes = varying.extremes
    if any(line.rounds is not rounds for line in lines):
        rounds = sorted({number for line in lines for number in line.rounds})
        extremes = [rounds.index(varying.rounds[at]) for at in extremes]
        columns = [[*map(dict(zip(line.rounds, line.samples_us, strict=True)).get, rounds)] for line in lines]
    kept: Sequence[int] = range(len(rounds))
    if len(rounds) > most:
        kept = sorted({*extremes, *(number * len(rounds) // most for number in range(most))})
    return RoundTimes(
        case=lines[0].case,
        timing=lines[0].timing,
        count=len(rounds),
        positions=tuple(kept),
        times_us={line.arm: tuple([column[at] for at in kept]) for line, column in zip(lines, columns, strict=True)},
    )


def _extremes(samples_us: ListColumn) -> list[tuple[float, int, int]]:
    """Return, for each line, the longest time divided by the shortest, and the positions of both."""
    shares, shortest, longest = np.empty(len(samples_us)), *np.empty((2, len(samples_us)), dtype=np.intp)
    for lines in samples_us.of_equal_length():
        times_us = samples_us.matrix(lines)
        shortest[lines], longest[lines] = times_us.argmin(axis=1), times_us.argmax(axis=1)
        shares[lines] = times_us.max(axis=1) / times_us.min(axis=1)
    return list(zip(shares.tolist(), shortest.tolist(), longest.tolist(), strict=True))
