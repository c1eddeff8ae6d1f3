"""The contents of the table that answers the question, for one kind of case: comparisons, marks, and their texts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.wording import compared_case, compared_text, significant, times_unit
from nccl_bench.catalog.cases import kind_of
from nccl_bench.catalog.timings import Timing
from nccl_bench.report.change_texts import change_cell, mark_notes, saved_cell, some_sizes
from nccl_bench.report.tables import cell_marks

# By timing, size and arm: the comparisons with their bands, and the texts in place of a time.
_Cells = Mapping[tuple[Timing, int, str], tuple[Comparison, Band]]
_Marks = Mapping[tuple[Timing, int, str], str]


# No slots: the instance keeps the texts of each kind, which are made when a table first shows them.
@dataclass(frozen=True, kw_only=True)
class ArmTexts:
    """The texts of one arm in one timing, in the order of the sizes: they are the same in every layout."""

    cells: Sequence[tuple[Comparison, Band] | None]  # the comparison with its band; None without one
    cell_marks: Sequence[str]  # the mark in place of a time; otherwise an empty text

    @cached_property
    def times(self) -> Sequence[str]:
        """The time of the arm, or a mark in its place."""
        pairs = zip(self.cells, self.cell_marks, strict=True)
        return [significant(cell[0].candidate_us) if cell else mark for cell, mark in pairs]

    @cached_property
    def saved(self) -> Sequence[str]:
        """The time saved; with a shared arm, the change of that arm instead."""
        return [saved_cell(cell[0]) if cell else "" for cell in self.cells]

    @cached_property
    def changes(self) -> Sequence[str]:
        """The change with the mark of its verdict."""
        return [change_cell(*cell) if cell else "" for cell in self.cells]

    @property
    def marks(self) -> Sequence[str]:
        """The marks in place of changes, where no column has times; otherwise empty texts."""
        return ["" if cell else mark for cell, mark in zip(self.cells, self.cell_marks, strict=True)]

    @property
    def ratios(self) -> Sequence[float | None]:
        """The ratio, for the bar; ``None`` without a comparison."""
        return [cell[0].ratio if cell else None for cell in self.cells]


# No slots: the texts are computed once, and only for the sizes of a table.
@dataclass(frozen=True, kw_only=True)
class KindOfCase:
    """The comparisons of one kind of case."""

    name: str  # the kind of case
    baseline: str  # the arm or side that the candidates are compared with
    candidates: tuple[str, ...]  # the arms or sides in question
    timings: Sequence[Timing]  # the timings that were measured; in a table that leaves out sizes, those that it shows
    cells: _Cells  # the comparisons, with their bands
    cell_marks: _Marks  # the marks in place of times
    largest_change: float  # the largest distance of a ratio from 1: the longest bar
    sizes: Sequence[int]  # the sizes, the smallest first; in a table those that it shows
    bands: Sequence[Band]  # the bands of all timings
    failed: frozenset[int]  # the sizes at which a mark stands in place of a time
    is_complete: bool  # True if all sizes are shown
    unit: str  # the work that one time belongs to
    of_one_run: bool  # True if both arms have times of the same rounds
    shared_arm: str | None  # the arm to which the times of two sides are relative; None if there is none

    @property
    def times(self) -> str:
        """The unit of the times in words."""
        return times_unit(self.unit)

    @property
    def alone(self) -> bool:
        """True if there is one candidate."""
        return len(self.candidates) == 1

    def part(self, timings: Sequence[Timing]) -> "KindOfCase":
        """Return the kind with ``timings`` and the sizes that a table of these shows; all of it if it is complete."""
        if self.is_complete:
            return self
        shown = {*some_sizes(self.sizes, [band for band in self.bands if band.timing in timings], self.failed)}
        return replace(self, timings=timings, sizes=[size for size in self.sizes if size in shown])

    @cached_property
    def texts(self) -> Mapping[tuple[Timing, str], ArmTexts]:
        """The texts of the candidates, by timing and arm."""
        return {
            (timing, arm): ArmTexts(
                cells=[self.cells.get((timing, size, arm)) for size in self.sizes],
                cell_marks=[self.cell_marks.get((timing, size, arm), "") for size in self.sizes],
            )
            for timing in self.timings
            for arm in self.candidates
        }

    @cached_property
    def mark_notes(self) -> Sequence[str]:
        """The notes that explain the marks of changes."""
        return mark_notes(text for texts in self.texts.values() for text in texts.changes)

    @cached_property
    def baseline_times(self) -> Mapping[Timing, Sequence[str]]:
        """The times of the baseline, or marks in their place, by timing."""
        return {timing: self._times_of_baseline(timing) for timing in self.timings}

    def _times_of_baseline(self, timing: Timing) -> Sequence[str]:
        of_candidates = [self.texts[timing, arm].cells for arm in self.candidates]
        cells = [next(filter(None, of_size), None) for of_size in zip(*of_candidates, strict=True)]
        return [
            significant(cell[0].baseline_us) if cell else self.cell_marks.get((timing, size, self.baseline), "")
            for cell, size in zip(cells, self.sizes, strict=True)
        ]


def kinds_of(analysis: Analysis, every_size: bool) -> Iterator[KindOfCase]:
    """Yield each kind of case; for two sides, each arm is a kind of its own."""
    groups: dict[tuple[str, tuple[str, ...]], list[Band]] = {}
    one_run = analysis.basis.of_one_run
    before, after = analysis.sides
    marks_of_kinds = cell_marks(analysis) if one_run else {}
    for band in analysis.answer_bands:
        first = band.comparisons[0]
        pair = (band.baseline,) if one_run else (band.candidate, band.baseline)
        groups.setdefault((compared_case(first), pair), []).append(band)
    compared = dict.fromkeys(band.candidate for band in analysis.answer_bands)
    for (name, _), bands in groups.items():
        first = bands[0].comparisons[0]
        cells = {
            (band.timing, each.case.size_bytes, band.candidate if one_run else after): (each, band)
            for band in bands
            for each in band.comparisons
        }
        # A mark leaves out the number of wrong elements, which would make each column wider.
        marks = {key: mark.partition(" (")[0] for key, mark in marks_of_kinds.get(kind_of(first.case), {}).items()}
        # An arm that failed in every case of this kind, and is compared in another kind, has marks alone.
        of_kind = {band.candidate for band in bands} | ({arm for _, _, arm in marks} if one_run else set())
        arms = tuple(arm for arm in compared if arm in of_kind)
        sizes = sorted({size for _, size, _ in (*cells, *marks)})
        failed = frozenset(size for _, size, _ in marks)
        baseline, candidates = (first.baseline, arms) if one_run else (before, (after,))
        measured = {timing for timing, _, _ in cells}
        timings = [timing for timing in Timing if timing in measured]
        yield KindOfCase(
            name=name if one_run else f"{compared_text(first, analysis.sides)}: {name}",
            baseline=baseline,
            candidates=candidates,
            timings=timings,
            cells=cells,
            cell_marks=marks,
            largest_change=max(abs(ratio - 1) for band in bands for ratio in band.ratios),
            sizes=sizes,
            bands=bands,
            failed=failed,
            is_complete=every_size or len(some_sizes(sizes, bands, failed)) == len(sizes),
            unit=analysis.unit,
            of_one_run=one_run,
            shared_arm=analysis.shared_arm,
        )
