"""Groups what an analysis holds by kind of case and timing, since each chart shows one of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.summary import Row
from nccl_bench.analysis.wording import case_name, compared_text
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing

# All that names a case but its size.
Kind = tuple[object, ...]
Cell = TypeVar("Cell")
# The cells of one timing: name of the line -> message size -> cell.
CellsBySize = Mapping[str, Mapping[int, Cell]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartArm:
    """An arm, or a pair of arms of two sides, that the reader can switch on and off."""

    name: str  # the name of the arm; for two sides, the name of the pair
    note: str  # the part that it plays, such as `baseline`; empty for most arms
    style: int  # the number of its colour, dash and mark


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnArm:
    """An arm of a run, as the charts of times draw it."""

    side: str  # the name of its side; empty if there is only one run
    arm: str  # the name of the arm
    label: str  # the name of its lines, which differs between the sides
    name: str  # the name of the `ChartArm` that switches it on and off
    style: int  # the number of its colour, dash and mark
    hollow: bool = False  # True if its marks are hollow


@dataclass(frozen=True, slots=True, kw_only=True)
class CasesOfKind:
    """The rows and the comparisons of the cases of one kind."""

    kind: Kind  # the kind
    name: str  # the kind in words
    # The rows with a time, by timing and label of the drawn arm; empty if a side has several runs, or is a summary.
    rows: Mapping[Timing, CellsBySize[Row]]
    comparisons: Mapping[Timing, CellsBySize[Comparison]]  # the comparisons, by timing and name of the pair
    arms: Mapping[str, ChartArm]  # what the reader switches on and off, by name; the same for all kinds
    drawn: Mapping[str, DrawnArm]  # the drawn arms by label; the same for all kinds


def kind_of(case: Case | Row) -> Kind:
    """Return the kind of a case or of a row about a case."""
    return case.scenario, case.collective, case.dtype, case.redop, case.placement, case.root


def arms_of(analysis: Analysis) -> dict[str, ChartArm]:
    """Return the arms with times, the baseline first; for two sides, the compared pairs."""
    if analysis.run is None:
        names = list(dict.fromkeys(pair_name(each, analysis) for each in analysis.comparisons))
        # The first style is that of a baseline.
        return {name: ChartArm(name=name, note="", style=number) for number, name in enumerate(names, start=1)}
    timed = {row.arm for row in analysis.rows if row.time_us is not None}
    present = [arm for arm in analysis.run.arms if arm in timed]
    baseline = analysis.run.baseline
    return {
        name: ChartArm(name=name, note="baseline" if name == baseline else "", style=number)
        for number, name in enumerate(present, start=0 if baseline in timed else 1)
    }


def drawn_arms(analysis: Analysis) -> list[DrawnArm]:
    """Return the arms that charts of times draw: those of the run, or both parts of each compared pair."""
    arms = arms_of(analysis)
    if analysis.run is not None:
        return [
            DrawnArm(side="", arm=arm.name, label=arm.name, name=arm.name, style=arm.style) for arm in arms.values()
        ]
    sides = ("", "") if analysis.basis.of_one_run else analysis.sides
    alone = len(arms) == 1
    drawn: dict[tuple[str, str], DrawnArm] = {}
    for each in analysis.comparisons:
        pair = arms[pair_name(each, analysis)]
        parts = (each.baseline, each.candidate)
        for part, (side, arm) in enumerate(zip(sides, parts, strict=True)):
            if (side, arm) not in drawn:
                drawn[side, arm] = DrawnArm(
                    side=side,
                    arm=arm,
                    label=f"{arm}, {side}" if side and (not alone or len({*parts}) == 1) else arm,
                    name=pair.name,
                    # A single pair has the styles of a baseline and of a candidate.
                    style=0 if alone and part == 0 else pair.style,
                    hollow=not alone and part == 0,
                )
    return list(drawn.values())


def kinds(analysis: Analysis) -> list[CasesOfKind]:
    """Return the cases of each kind, in the order of measurement."""
    drawn = drawn_arms(analysis)
    labels = {(each.side, each.arm): each.label for each in drawn}
    rows: dict[Kind, dict[Timing, dict[str, dict[int, Row]]]] = {}
    comparisons: dict[Kind, dict[Timing, dict[str, dict[int, Comparison]]]] = {}
    for side, row in _rows_by_side(analysis):
        if row.time_us is not None and (label := labels.get((side, row.arm or ""))):
            of_timing = rows.setdefault(kind_of(row), {}).setdefault(Timing(row.timing or ""), {})
            of_timing.setdefault(label, {})[row.size_bytes or 0] = row
    for each in analysis.comparisons:
        of_pair = comparisons.setdefault(kind_of(each.case), {}).setdefault(each.timing, {})
        of_pair.setdefault(pair_name(each, analysis), {})[each.case.size_bytes] = each
    arms = arms_of(analysis)
    return [
        CasesOfKind(
            kind=kind,
            name=_name(rows.get(kind, {}), comparisons.get(kind, {})),
            rows=rows.get(kind, {}),
            comparisons=comparisons.get(kind, {}),
            arms=arms,
            drawn={each.label: each for each in drawn},
        )
        for kind in dict.fromkeys((*rows, *comparisons))
    ]


def _rows_by_side(analysis: Analysis) -> Iterator[tuple[str, Row]]:
    """Yield each row with the name of its side; none if a side has several runs, or no records."""
    names = [name for name, _ in analysis.rows_of_runs]
    if names == [name for name, _ in analysis.metas] and {*names} <= {"", *analysis.sides}:
        for name, rows in analysis.rows_of_runs:
            yield from ((name, row) for row in rows)


def pair_name(comparison: Comparison, analysis: Analysis) -> str:
    """Return the name of the line of a comparison: its candidate, for two sides its two arms."""
    return comparison.candidate if analysis.run is not None else compared_text(comparison, analysis.sides)


def timing_style(timing: Timing) -> int:
    """Return the style of a line that stands for ``timing``. The first styles are those of the first arms."""
    return list(Timing).index(timing) + 4


def sizes_of(cells: CellsBySize[Cell]) -> Sequence[int]:
    """Return the message sizes of ``cells``, the smallest first."""
    return sorted({size for of_line in cells.values() for size in of_line})


def _name(rows: Mapping[Timing, CellsBySize[Row]], comparisons: Mapping[Timing, CellsBySize[Comparison]]) -> str:
    of_rows = [row for timing in rows.values() for arm in timing.values() for row in arm.values()]
    if of_rows:
        return case_name(of_rows[0], {row.arm_placement or "" for row in of_rows})
    of_pairs = [each for timing in comparisons.values() for pair in timing.values() for each in pair.values()]
    return case_name(of_pairs[0].case, {placement for each in of_pairs for placement in each.placements})
