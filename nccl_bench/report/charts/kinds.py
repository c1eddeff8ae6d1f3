"""Groups rows and comparisons by kind of case and timing, because a chart shows one kind of case and one timing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, TypeVar

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.rows import Rows
from nccl_bench.analysis.summary import Row
from nccl_bench.analysis.wording import case_name, compared_text
from nccl_bench.catalog.cases import KIND_FIELDS, kind_of
from nccl_bench.catalog.timings import Timing
from nccl_bench.report.charts.chart import Value
from nccl_bench.report.charts.styles import arm_styles

# The values that name a case, without its size.
Kind = tuple[Any, ...]
Cell = TypeVar("Cell")
# The cells of one timing: name of the line -> message size -> cell.
CellsBySize = Mapping[str, Mapping[int, Cell]]
# The cells by size; each key is a kind, a timing, and a side with an arm, or a pair of arms.
_Groups = dict[tuple[Kind, str, tuple[str, str]], dict[int, Cell]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartArm:
    """An arm, or a pair of arms of two sides, that the reader can switch on and off."""

    name: str  # the name of the arm; for two sides, the name of the pair
    note: str  # the role of the arm, such as `baseline`; empty for most arms
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
    """The rows and the comparisons of the cases of one kind. A run can have a million rows, so rows are columns."""

    kind: Kind  # the kind
    name: str  # the kind in words
    # The indexes of the rows with a time, in `rows`, by timing and label of the drawn arm; empty if a side has several
    # runs, or is a summary.
    measured: Mapping[Timing, CellsBySize[int]]
    rows: Mapping[str, Rows]  # the rows of the run of each drawn arm, by label; the same for all kinds
    comparisons: Mapping[Timing, CellsBySize[Comparison]]  # the comparisons, by timing and name of the pair
    floors: Mapping[Timing, CellsBySize[float]]  # the noise floors of the bands, as shares, by timing and pair
    ratio: str  # the meaning of a ratio in words, such as `ratio to torch`
    saved: str  # the meaning of a saved time in words
    times: str  # the meaning of a time in words, such as `us a call`
    arms: Mapping[str, ChartArm]  # what the reader switches on and off, by name; the same for all kinds
    drawn: Mapping[str, DrawnArm]  # the drawn arms by label; the same for all kinds

    def values(self, timing: Timing, label: str, sizes: Sequence[int], column: str) -> tuple[Value, ...]:
        """Return the values of a column of the summary at ``sizes``, for one timing and drawn arm."""
        of_rows, at_size = self.rows[label].column(column), self.measured[timing][label].get
        return tuple([None if at is None else of_rows[at] for at in map(at_size, sizes)])


def arms_of(analysis: Analysis) -> dict[str, ChartArm]:
    """Return the arms with times, the baseline first; for two sides, the shared arm and the compared pairs."""
    if analysis.run is None:
        pairs = {pair_name(each, analysis): each for each in _compared_pairs(analysis)}
        styles = _styles_of_pairs(analysis)
        shared = analysis.shared_arm if pairs else None
        of_shared = {shared: ChartArm(name=shared, note="shared", style=styles[shared])} if shared is not None else {}
        return of_shared | {
            name: ChartArm(name=name, note="", style=styles[each.candidate]) for name, each in pairs.items()
        }
    timed = {*compress(analysis.rows.column("arm"), analysis.rows.numbers("time_us") >= 0)}
    present = [arm for arm in analysis.run.arms if arm in timed]
    baseline = analysis.run.baseline
    return {
        name: ChartArm(name=name, note="baseline" if name == baseline else "", style=style)
        for name, style in arm_styles(present).items()
    }


def _compared_pairs(analysis: Analysis) -> Iterable[Comparison]:
    """Return a comparison of each pair of arms and placements: long runs compare each pair thousands of times."""
    return {(each.baseline, each.candidate, each.placements): each for each in analysis.comparisons}.values()


def _styles_of_pairs(analysis: Analysis) -> dict[str, int]:
    """Return the style of each arm of the compared pairs, and of the shared arm."""
    compared = [arm for each in _compared_pairs(analysis) for arm in (each.candidate, each.baseline)]
    shared = [analysis.shared_arm] if analysis.shared_arm is not None else []
    return arm_styles(list(dict.fromkeys([*compared, *shared])))


def drawn_arms(analysis: Analysis) -> list[DrawnArm]:
    """Return the arms that charts of times draw: the arms of the run, or both arms of each compared pair.

    The shared arm is the first, because it shows what the machine did.
    """
    arms = arms_of(analysis)
    if analysis.run is not None:
        return [
            DrawnArm(side="", arm=arm.name, label=arm.name, name=arm.name, style=arm.style) for arm in arms.values()
        ]
    sides = ("", "") if analysis.basis.of_one_run else analysis.sides
    alone = len({pair_name(each, analysis) for each in _compared_pairs(analysis)}) == 1
    styles = _styles_of_pairs(analysis)
    drawn: dict[tuple[str, str], DrawnArm] = {}
    shared = analysis.shared_arm
    for part, side in enumerate(sides):
        if shared is not None and shared in arms:
            drawn[side, shared] = DrawnArm(
                side=side, arm=shared, label=f"{shared}, {side}", name=shared, style=styles[shared], hollow=part == 0
            )
    for each in _compared_pairs(analysis):
        pair = arms[pair_name(each, analysis)]
        parts = (each.baseline, each.candidate)
        for part, (side, arm) in enumerate(zip(sides, parts, strict=True)):
            if (side, arm) not in drawn:
                drawn[side, arm] = DrawnArm(
                    side=side,
                    arm=arm,
                    label=f"{arm}, {side}" if side and (not alone or len({*parts}) == 1) else arm,
                    name=pair.name,
                    style=styles[arm],
                    hollow=bool(side) and part == 0,
                )
    return list(drawn.values())


def kinds(analysis: Analysis) -> list[CasesOfKind]:
    """Return the cases of each kind, in the order of measurement."""
    drawn = drawn_arms(analysis)
    labels = {(each.side, each.arm): each.label for each in drawn}
    rows_of_sides = _rows_of_sides(analysis)
    measured: _Groups[int] = defaultdict(dict)
    for side, rows in rows_of_sides.items():
        columns = zip(*map(rows.column, ("timing", "arm", "size_bytes", "time_us", *KIND_FIELDS)), strict=True)
        for at, (timing, arm, size_bytes, time_us, *kind) in enumerate(columns):
            if time_us is not None:
                measured[tuple(kind), timing, (side, arm)][size_bytes] = at
    comparisons: _Groups[Comparison] = defaultdict(dict)
    for each in analysis.comparisons:
        kind_and_pair = (kind_of(each.case), each.timing, (each.baseline, each.candidate))
        comparisons[kind_and_pair][each.case.size_bytes] = each
    names = {(each.baseline, each.candidate): each for of_pair in comparisons.values() for each in of_pair.values()}
    pairs = {pair: pair_name(each, analysis) for pair, each in names.items()}
    floors: _Groups[float] = defaultdict(dict)
    for band in analysis.bands:
        if band.noise_floor is not None:
            of_band = floors[kind_of(band.comparisons[0].case), band.timing, (band.baseline, band.candidate)]
            of_band |= {each.case.size_bytes: band.noise_floor for each in band.comparisons}
    measured_of_kinds, comparisons_of_kinds, floors_of_kinds = (
        _nested(measured, labels),
        _nested(comparisons, pairs),
        _nested(floors, pairs),
    )
    arms = arms_of(analysis)
    ratio, saved = _meanings(analysis)
    rows_of_arms = {each.label: rows_of_sides[each.side] for each in drawn if each.side in rows_of_sides}
    return [
        CasesOfKind(
            kind=kind,
            name=case_name(
                Row(**dict(zip(KIND_FIELDS, kind, strict=True))),
                _placements(measured_of_kinds.get(kind, {}), rows_of_arms, comparisons_of_kinds.get(kind, {})),
            ),
            measured=measured_of_kinds.get(kind, {}),
            rows=rows_of_arms,
            comparisons=comparisons_of_kinds.get(kind, {}),
            floors=floors_of_kinds.get(kind, {}),
            ratio=ratio,
            saved=saved,
            times=f"us a {analysis.unit}",
            arms=arms,
            drawn={each.label: each for each in drawn},
        )
        for kind in dict.fromkeys((*measured_of_kinds, *comparisons_of_kinds))
    ]


def _nested(groups: _Groups[Cell], names: Mapping[tuple[str, str], str]) -> dict[Kind, dict[Timing, CellsBySize[Cell]]]:
    """Return the cells of each kind, by timing and name of the line. Omit cells whose line has no name in ``names``."""
    nested: dict[Kind, dict[Timing, dict[str, Mapping[int, Cell]]]] = {}
    for (kind, timing, line), cells in groups.items():
        if line in names:
            nested.setdefault(kind, {}).setdefault(Timing(timing), {})[names[line]] = cells
    return {kind: {**of_kind} for kind, of_kind in nested.items()}


def _meanings(analysis: Analysis) -> tuple[str, str]:
    """Return what a ratio and what a saved time mean."""
    saved = f"us saved by a {analysis.unit}"
    if analysis.basis.of_one_run:
        baselines = ", ".join(dict.fromkeys(each.baseline for each in analysis.comparisons))
        return f"ratio to {baselines}", saved
    before, after = analysis.sides
    if analysis.shared_arm is not None:
        return (
            f"{after} / {before}, of the ratio to {analysis.shared_arm}",
            f"{saved}, relative to {analysis.shared_arm}",
        )
    return f"{after} / {before}", saved


def _rows_of_sides(analysis: Analysis) -> Mapping[str, Rows]:
    """Return the rows of each side by its name; none if a side has several runs, or no records."""
    names = [name for name, _ in analysis.rows_of_runs]
    is_known = names == [name for name, _ in analysis.metas] and {*names} <= {"", *analysis.sides}
    return dict(analysis.rows_of_runs) if is_known else {}


def pair_name(comparison: Comparison, analysis: Analysis) -> str:
    """Return the name of the line of a comparison: its candidate, for two sides its two arms."""
    return comparison.candidate if analysis.run is not None else compared_text(comparison, analysis.sides)


def sizes_of(cells: CellsBySize[Cell]) -> Sequence[int]:
    """Return the message sizes of ``cells``, the smallest first."""
    return sorted({size for of_line in cells.values() for size in of_line})


def _placements(
    measured: Mapping[Timing, CellsBySize[int]],
    rows: Mapping[str, Rows],
    comparisons: Mapping[Timing, CellsBySize[Comparison]],
) -> set[str]:
    """Return the placements in which the arms of a kind were called; without rows, the placements of comparisons."""
    lines = [(rows[label].column("arm_placement"), line) for arms in measured.values() for label, line in arms.items()]
    if lines:
        return {of_rows[at] or "" for of_rows, line in lines for at in line.values()}
    of_pairs = [each for pairs in comparisons.values() for pair in pairs.values() for each in pair.values()]
    return {placement for each in of_pairs for placement in each.placements}
