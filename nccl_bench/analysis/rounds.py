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

    If all rounds together have more than ``most`` times, each case and timing keeps the shortest and the longest time
    of each arm, and rounds at equal distances between them.
    """
    groups: dict[tuple[Case, Timing], dict[str, dict[int, float]]] = {}
    for line in lines:
        if isinstance(line, Samples) and line.arm in arms and line.samples_us:
            groups.setdefault((line.case, line.timing), {})[line.arm] = line.rounds_us()
    cells = sum(map(len, groups.values()))
    each = max(2, most // cells) if cells else 0
    return tuple(_kept(case, timing, of_arms, each) for (case, timing), of_arms in groups.items())


def _kept(case: Case, timing: Timing, of_arms: Mapping[str, Mapping[int, float]], most: int) -> RoundTimes:
    numbers = sorted({number for rounds in of_arms.values() for number in rounds})
    kept = _chosen(numbers, of_arms.values(), most) if len(numbers) > most else range(len(numbers))
    return RoundTimes(
        case=case,
        timing=timing,
        count=len(numbers),
        positions=tuple(kept),
        times_us={arm: tuple(rounds.get(numbers[at]) for at in kept) for arm, rounds in of_arms.items()},
    )


def _chosen(numbers: Sequence[int], arms: Iterable[Mapping[int, float]], most: int) -> list[int]:
    extremes = {choose(rounds, key=rounds.__getitem__) for rounds in arms for choose in (min, max)}
    step = len(numbers) / most
    return sorted({numbers.index(number) for number in extremes} | {int(at * step) for at in range(most)})
