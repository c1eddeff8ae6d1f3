"""The times of rounds in the order of measurement: they show whether the machine was steady."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.columns import SampleColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTimes:
    """The times of all arms in the rounds of one case and timing, or in some of the rounds."""

    case: Case  # the measured case
    timing: Timing  # the way of measuring
    count: int  # the number of rounds that were measured
    positions: tuple[int, ...]  # the position of each kept round among all rounds, from 0
    times_us: Mapping[str, tuple[float | None, ...]]  # arm -> its time in each kept round; None: it has no time there


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
    return tuple(_kept(timed.take(lines), each) for lines in by_point)


def _kept(samples: SampleColumns, most: int) -> RoundTimes:
    arms, times_us = samples.arm.to_list(), samples.samples_us.to_lists()
    columns: Mapping[str, Sequence[float | None]] = dict(zip(arms, times_us, strict=True))
    if len({*samples.rounds.codes.tolist()}) > 1:
        rounds = samples.rounds.to_list()
        numbers = sorted({number for of_line in rounds for number in of_line})
        columns = {
            arm: [*map(dict(zip(of_line, of_arm, strict=True)).get, numbers)]
            for arm, of_line, of_arm in zip(arms, rounds, times_us, strict=True)
        }
    count = len(columns[arms[0]])
    kept = _chosen(columns.values(), count, most) if count > most else range(count)
    return RoundTimes(
        case=samples.case[0],
        timing=samples.timing[0],
        count=count,
        positions=tuple(kept),
        times_us={arm: tuple(column[at] for at in kept) for arm, column in columns.items()},
    )


def _chosen(columns: Iterable[Sequence[float | None]], count: int, most: int) -> list[int]:
    _, *extremes = max(map(_extremes, columns))
    return sorted({*extremes, *(number * count // most for number in range(most))})


def _extremes(times_us: Sequence[float | None]) -> tuple[float, int, int]:
    """Return the longest time divided by the shortest, and the positions of both."""
    known = [time_us for time_us in times_us if time_us is not None]
    shortest, longest = min(known), max(known)
    return longest / shortest, times_us.index(shortest), times_us.index(longest)
