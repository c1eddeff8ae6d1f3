"""The times of rounds in the order of measurement: they show whether the machine was steady."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from nccl_bench.analysis.cells import Cells
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.columns import ListColumn, SampleColumns, take_lines


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
    timed = Cells.of_samples(samples).only(samples.arm.equals(*arms) & samples.is_timed)
    order = np.argsort(timed.point, kind="stable")
    points, timed = timed.point[order].tolist(), take_lines(timed, order)
    each = max(2, most // len(points)) if points else 0
    # An object for each line, but never for all lines at once: there can be a million, each with many times.
    lines = map(
        _Line,
        points,
        *(column.to_list() for column in (timed.case, timed.timing, timed.arm, timed.rounds)),
        (times_us.tolist() for times_us in timed.samples_us),
        _extremes(timed.samples_us),
    )
    return tuple(_kept(list(of_point), each) for _, of_point in groupby(lines, key=attrgetter("point")))


class _Line(NamedTuple):
    """The times of an arm in the rounds of a case and timing."""

    point: int  # the number of the case and timing
    case: Case  # the measured case
    timing: Timing  # the way of measuring
    arm: str  # the arm
    rounds: Sequence[int]  # the number of each round
    samples_us: Sequence[float | None]  # the time of each round
    extremes: tuple[float, int, int]  # the longest time divided by the shortest, and the positions of both


def _kept(lines: Sequence[_Line], most: int) -> RoundTimes:
    """Return the rounds to keep of a case and timing; ``lines`` has a line for each arm."""
    columns, rounds = [line.samples_us for line in lines], lines[0].rounds
    varying = max(lines, key=attrgetter("extremes"))
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


def _extremes(samples_us: ListColumn) -> Iterable[tuple[float, int, int]]:
    """Return, for each line, the longest time divided by the shortest, and the positions of both."""
    shares, shortest, longest = np.empty(len(samples_us)), *np.empty((2, len(samples_us)), dtype=np.intp)
    for lines in samples_us.of_equal_length():
        times_us = samples_us.matrix(lines)
        shortest[lines], longest[lines] = times_us.argmin(axis=1), times_us.argmax(axis=1)
        shares[lines] = times_us.max(axis=1) / times_us.min(axis=1)
    return zip(shares.tolist(), shortest.tolist(), longest.tolist(), strict=True)
