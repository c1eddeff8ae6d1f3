"""The times of rounds in the order of measurement: they show whether the machine was steady."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.schema import Line, Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTimes:
    """The times of all arms in the rounds of one case and timing, or in some of the rounds."""

    case: Case  # the measured case
    timing: Timing  # the way of measuring
    count: int  # the number of rounds that were measured
    positions: tuple[int, ...]  # the position of each kept round among all rounds, from 0
    times_us: Mapping[str, tuple[float | None, ...]]  # arm -> its time in each kept round; None: it has no time there


def round_times(lines: Iterable[Line], arms: Collection[str], most: int) -> tuple[RoundTimes, ...]:
    """Return the times of ``arms``, in the order of measurement.

    If all rounds together have more than about ``most`` times, each case and timing keeps rounds at equal distances,
    and the shortest and the longest round of the arm that varies most.
    """
    groups: dict[tuple[Case, Timing], list[Samples]] = {}
    for line in lines:
        if isinstance(line, Samples) and line.arm in arms and line.samples_us:
            groups.setdefault((line.case, line.timing), []).append(line)
    cells = sum(map(len, groups.values()))
    each = max(2, most // cells) if cells else 0
    return tuple(_kept(case, timing, of_point, each) for (case, timing), of_point in groups.items())


def _kept(case: Case, timing: Timing, lines: Sequence[Samples], most: int) -> RoundTimes:
    columns: Mapping[str, Sequence[float | None]] = {line.arm: line.samples_us for line in lines}
    if any(line.rounds != lines[0].rounds for line in lines):
        numbers = sorted({number for line in lines for number in line.rounds})
        columns = {line.arm: [*map(line.rounds_us().get, numbers)] for line in lines}
    count = len(columns[lines[0].arm])
    kept = _chosen(columns.values(), count, most) if count > most else range(count)
    return RoundTimes(
        case=case,
        timing=timing,
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
