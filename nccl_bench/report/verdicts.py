"""Comparisons as a table that is read in ten seconds: which sizes changed, by how much, how sure.

Neighbouring sizes with the same verdict by the same threshold share a line. Nothing is averaged over them: a line shows
the smallest and the largest ratio, what all their intervals span, and the highest noise floor among them. What nothing
judges has a line for each size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from nccl_bench.analysis.between import Between
from nccl_bench.analysis.comparison import Compared
from nccl_bench.analysis.sources import Source
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Interval, Verdict, verdict_of
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.sizes import format_size
from nccl_bench.report.layout import Column, Table, column, counted, ratio, significant
from nccl_bench.report.tables import case_name

# Between columns: with more, those that say how sure a verdict is would not fit in 80.
_GAP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One comparison as a report needs it; ``who`` says what is compared with what, ``arms`` those of both ``sides``.

    ``pairs_needed`` is set where there were too few rounds for any interval. ``before_us`` and ``after_us`` are the
    medians of what ``sides`` names, ``None`` where another table has them.
    """

    who: str
    arms: tuple[str, str]
    case: Case
    timing: Timing
    ratio: float
    threshold: float
    interval: Interval | None
    verdict: Verdict | None
    floor: float | None = None
    below_floor: bool = False
    pairs_needed: int | None = None
    before_us: float | None = None
    after_us: float | None = None
    sides: tuple[str, str] = ("before", "after")


def of_pairs(compared: Iterable[Compared], source: Source | None = None) -> list[Told]:
    """The comparisons of one run; with the times of ``source``, which is that run."""

    def time_us(one: Compared, arm: str) -> float | None:
        return source.median_us((one.case, one.timing), arm) if source else None

    return [
        Told(
            who=f"{one.candidate} against {one.baseline}",
            arms=(one.baseline, one.candidate),
            case=one.case,
            timing=one.timing,
            ratio=one.comparison.ratio,
            threshold=one.comparison.threshold,
            interval=one.comparison.interval,
            verdict=one.verdict,
            floor=one.floor,
            below_floor=one.below_floor,
            pairs_needed=one.comparison.pairs_needed if one.comparison.interval is None else None,
            before_us=time_us(one, one.baseline),
            after_us=time_us(one, one.candidate),
            sides=("baseline", "candidate"),
        )
        for one in compared
    ]


def of_sides(found: Between) -> list[Told]:
    """The comparisons of two sides."""
    return [
        Told(
            who=f"{one.after_arm}, after against before"
            if one.before_arm == one.after_arm
            else f"{one.after_arm} (after) against {one.before_arm} (before)",
            arms=(one.before_arm, one.after_arm),
            case=one.case,
            timing=one.timing,
            ratio=one.ratio,
            threshold=one.threshold,
            interval=one.interval,
            verdict=one.verdict,
            floor=one.floor,
            below_floor=one.below_floor,
            pairs_needed=one.pairs_needed,
            before_us=one.before_us,
            after_us=one.after_us,
        )
        for one in found.changes
    ]


def tables(told: Sequence[Told]) -> Iterator[Table]:
    """One for each pair of arms and each kind of case."""
    limits = {one.threshold for one in told}
    for title, of_table in _by_table(told).items():
        lines = list(_lines(of_table))
        columns = _places(lines)
        if _judged(of_table):
            columns.append(column("verdict", ("verdict",), [_verdict(group[0]) for group in lines], left=True))
        else:
            columns += _times(lines)
        columns.append(column("ratio", ("ratio",), [_range([one.ratio for one in group]) for group in lines]))
        keep = len(columns)
        if any(one.interval for one in of_table):
            spans = [[end for one in group if one.interval for end in _ends(one.interval)] for group in lines]
            columns.append(column("interval", ("interval",), list(map(_range, spans))))
        if _judged(of_table) and len(limits) > 1:
            columns.append(column("limit", ("limit",), [_share(group[0].threshold) for group in lines]))
        if any(one.floor is not None for one in of_table):
            floors = [[one.floor for one in group if one.floor is not None] for group in lines]
            columns.append(column("noise floor", ("noise", "floor"), list(map(_percent, floors))))
        if _judged(of_table) and _has_times(lines):
            columns += _times(lines)
        yield Table(title=title, notes=(), columns=tuple(columns), keep=keep, gap=_GAP)


def figures(told: Sequence[Told]) -> Iterator[Table]:
    """The times of every size, where they are known and those of ``tables`` have sizes that share a line."""
    for title, of_table in _by_table(told).items():
        if any(one.before_us is not None for one in of_table) and any(len(group) > 1 for group in _lines(of_table)):
            lines = [[one] for group in _lines(of_table) for one in group]
            ratios = column("ratio", ("ratio",), [ratio(group[0].ratio) for group in lines])
            columns = (*_places(lines), *_times(lines), ratios)
            yield Table(title=f"{title}, medians", notes=(), columns=columns, keep=len(columns), gap=_GAP)


def heading(told: Sequence[Told], witnesses: str = "rounds") -> str:
    """What the verdicts mean, and how often they are wrong as far as the ``witnesses`` of the intervals tell."""
    if not _judged(told):
        return "Ratios below 1 are faster."
    thresholds = sorted({one.threshold for one in told})
    matters = f"{_share(thresholds[0])} matters"
    if len(thresholds) > 1:
        matters = f"{_share(thresholds[0])} to {_share(thresholds[-1])} matters, by the limit of its line"
    decided = sum(one.verdict not in (None, Verdict.INCONCLUSIVE) for one in told)
    hold = "The one decided verdict holds" if decided == 1 else f"The {decided} decided verdicts hold together"
    sure = f" {hold} with {(1 - FAMILYWISE_ERROR) * 100:.0f} % confidence, as far as {witnesses} tell."
    return f"Ratios below 1 are faster; a difference of {matters}.{sure if decided else ''}"


def hints(told: Sequence[Told], more: str = "More rounds (--max-rounds, --max-seconds)") -> Iterator[str]:
    """What would decide what is open; ``more`` is of what the intervals stand on."""
    open_ones = [one for one in told if one.verdict is Verdict.INCONCLUSIVE]
    few = [one for one in open_ones if one.pairs_needed is not None]
    twinless = [one for one in open_ones if one.below_floor and one.floor is None]
    below = [one for one in open_ones if one.below_floor and one.floor is not None]
    same = [one for one in below if verdict_of(one.interval, one.threshold) is Verdict.EQUIVALENT]
    different = [one for one in below if verdict_of(one.interval, one.threshold) is not Verdict.EQUIVALENT]
    wide = [one for one in open_ones if one.pairs_needed is None and not one.below_floor]
    if few:
        most = max(one.pairs_needed or 0 for one in few)
        yield (
            f"{counted(len(few), 'cell')} inconclusive for want of rounds: with so many comparisons at once an "
            f"interval there takes {most}, and then reaches from the smallest ratio to the largest. More rounds than "
            "that (--rounds) narrow it, or fewer sizes and arms."
        )
    if twinless:
        yield (
            f"{counted(len(twinless), 'cell')} inconclusive because no twin was measured, so how much the luck of a "
            "communicator makes is not known: several runs a side would tell (nccl-bench compare)."
        )
    if different:
        yield (
            f"{counted(len(different), 'cell')} inconclusive because the baseline's own twin, the same communicator "
            f"made twice, differs too, most for {_highest(different)}. A difference has to matter beyond that; several "
            "runs a side would tell (nccl-bench compare)."
        )
    if same:
        yield (
            f"{counted(len(same), 'cell')} inconclusive although the interval is within the threshold: equivalent "
            "needs a noise floor, what the baseline's own twin shows, below the threshold too. It is highest for "
            f"{_highest(same)}."
        )
    if wide:
        worst = max(wide, key=lambda one: one.interval.half_width if one.interval else 0)
        interval = worst.interval
        assert interval is not None
        yield (
            f"{counted(len(wide), 'cell')} inconclusive because the interval reaches over the threshold, widest for "
            f"{_where(worst)}: {interval.low:.3f}x to {interval.high:.3f}x, where {_share(worst.threshold)} matters. "
            f"{more} narrow it; a ratio right at the threshold stays open."
        )


def _by_table(told: Sequence[Told]) -> dict[str, list[Told]]:
    groups: dict[str, list[Told]] = {}
    for one in told:
        groups.setdefault(f"{one.who}: {case_name(one.case)}", []).append(one)
    return groups


def _lines(told: Sequence[Told]) -> Iterator[list[Told]]:
    for timing in Timing:
        of_timing = sorted((one for one in told if one.timing is timing), key=lambda one: one.case.size_bytes)
        for _, group in groupby(of_timing, key=lambda one: (one.verdict or one.case.size_bytes, one.threshold)):
            yield list(group)


def _judged(told: Sequence[Told]) -> bool:
    return any(one.verdict is not None for one in told)


def _has_times(lines: Sequence[Sequence[Told]]) -> bool:
    """Whether there are any, and a line is of one size."""
    return all(len(group) == 1 for group in lines) and any(group[0].before_us is not None for group in lines)


def _places(lines: Sequence[Sequence[Told]]) -> list[Column]:
    return [
        column("timing", ("timing",), [group[0].timing for group in lines], left=True),
        column("size", ("size",), [_sizes(group) for group in lines]),
    ]


def _times(lines: Sequence[Sequence[Told]]) -> list[Column]:
    before, after = lines[0][0].sides
    return [
        column(before, (before, "us"), [_time(group[0].before_us) for group in lines]),
        column(after, (after, "us"), [_time(group[0].after_us) for group in lines]),
    ]


def _sizes(group: Sequence[Told]) -> str:
    first, last = (format_size(group[index].case.size_bytes) for index in (0, -1))
    return first if len(group) == 1 else f"{first} to {last}"


def _verdict(one: Told) -> str:
    return "-" if one.verdict is None else str(one.verdict)


def _time(time_us: float | None) -> str:
    return "" if time_us is None else significant(time_us)


def _ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def _range(ratios: Sequence[float]) -> str:
    """The smallest to the largest; nothing of none."""
    if not ratios:
        return ""
    low, high = ratio(min(ratios)), ratio(max(ratios))
    return low if low == high else f"{low} to {high}"


def _percent(shares: Sequence[float]) -> str:
    return _share(max(shares)) if shares else ""


def _share(share: float) -> str:
    if share > 9.995:
        return ">999 %"
    return f"{share * 100:.1f} %" if share < 0.0995 else f"{share * 100:.0f} %"


def _highest(cells: Sequence[Told]) -> str:
    """The cell with the highest noise floor, and that."""
    worst = max(cells, key=lambda one: one.floor or 0)
    return f"{_where(worst)}: {_share(worst.floor or 0)}"


def _where(one: Told) -> str:
    return f"{one.who.split(' ', 1)[0]} {one.timing} {one.case.collective} {format_size(one.case.size_bytes)}"
