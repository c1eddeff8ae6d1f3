"""The tables of a comparison of two sides with several arms: for each timing and size, all arms before and after.

So a reader sees in one line what the machine did to all arms, and which arm is the fastest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.wording import compared_case, joined, significant
from nccl_bench.catalog.timings import Timing
from nccl_bench.report.change_texts import (
    MARKS_NOTE,
    SOME_SIZES,
    change_cell,
    mark_notes,
    sizes_column,
    some_sizes,
)
from nccl_bench.report.layout import Column, Table, column, fold

_GAP = 2
# A longer name of an arm is divided at a hyphen.
_NAME = 14
# By arm and size: a comparison with its band.
_Cells = Mapping[tuple[str, int], tuple[Comparison, Band]]


def sides_tables(analysis: Analysis, width: int, *, every_size: bool) -> list[Table]:
    """Return a table for each kind of case and timing, if each arm is compared with itself on the other side.

    Return no table if a kind of case has only one arm, or if a table does not fit in ``width``. Unless ``every_size``,
    omit some sizes, and omit each timing in which no arm changed.
    """
    kinds: dict[str, list[Band]] = {}
    for band in analysis.answer_bands:
        kinds.setdefault(compared_case(band.comparisons[0]), []).append(band)
    of_one_arm = any(len({band.candidate for band in bands}) == 1 for bands in kinds.values())
    if (
        analysis.basis.of_one_run
        or of_one_arm
        or any(band.baseline != band.candidate for band in analysis.answer_bands)
    ):
        return []
    tables = [
        table
        for name, bands in kinds.items()
        for table in _tables_of_kind(name, bands, analysis.shared_arm, width, every_size=every_size)
    ]
    return tables if all(table.width <= width for table in tables) else []


def _tables_of_kind(
    name: str, bands: Sequence[Band], shared_arm: str | None, width: int, *, every_size: bool
) -> Iterator[Table]:
    by_timing = {timing: [band for band in bands if band.timing is timing] for timing in Timing}
    measured = [timing for timing in Timing if by_timing[timing]]
    same = [t for t in measured if all(band.verdict is Verdict.EQUIVALENT for band in by_timing[t])]
    left_out = [] if every_size or len(same) == len(measured) else same
    shown = [timing for timing in measured if timing not in left_out]
    pairs = [shown[first : first + 2] for first in range(0, len(shown), 2)]
    # Two timings stand side by side if that fits.
    for timings in (pairs, [[timing] for timing in shown]):
        tables = [_table([by_timing[timing] for timing in row], shared_arm, every_size=every_size) for row in timings]
        if all(table.width <= width for table, _ in tables):
            break
    is_complete = all(complete for _, complete in tables)
    marks = mark_notes(cell for table, _ in tables for each in table.columns for cell in each.cells)
    (first, _), *following = tables
    yield replace(first, title=name, notes=_notes(shared_arm, left_out, marks, is_complete=is_complete))
    yield from (table for table, _ in following)


def _notes(
    shared_arm: str | None, left_out: Sequence[Timing], marks: Sequence[str], *, is_complete: bool
) -> tuple[str, ...]:
    change = "from before to after" if shared_arm is None else f"relative to {shared_arm}"
    notes = [f"Times in us, from before to after; % {change}: {MARKS_NOTE}"]
    if shared_arm is not None:
        notes.append(f"Where {shared_arm} itself changed, % is not the change of the two times beside it.")
    notes += marks
    if left_out:
        notes.append(f"Not shown, because every arm is the same there: {joined(left_out)}. --full shows it.")
    if not is_complete:
        notes.append(SOME_SIZES)
    return tuple(notes)


def _table(rows: Sequence[Sequence[Band]], shared_arm: str | None, *, every_size: bool) -> tuple[Table, bool]:
    """Return a table of timings side by side, and True if it has all sizes. ``rows`` has the bands of each timing."""
    bands = [band for of_timing in rows for band in of_timing]
    sizes = sorted({each.case.size_bytes for band in bands for each in band.comparisons})
    shown = sizes if every_size else some_sizes(sizes, bands)
    columns = [sizes_column(shown)]
    for of_timing in rows:
        columns += _timing_columns(of_timing, shown, shared_arm)
    return Table(title="", notes=(), columns=tuple(columns), keep=2, gap=_GAP), len(shown) == len(sizes)


def _timing_columns(bands: Sequence[Band], sizes: Sequence[int], shared_arm: str | None) -> Iterator[Column]:
    cells: _Cells = {
        (band.candidate, each.case.size_bytes): (each, band) for band in bands for each in band.comparisons
    }
    timing = str(bands[0].timing)
    if shared_arm is not None:
        shared = {size: each.shared for (_, size), (each, _) in cells.items()}
        times = [
            (significant(of.before_us), significant(of.after_us)) if (of := shared.get(size)) else ("", "")
            for size in sizes
        ]
        yield _group(timing, shared_arm, ("from", "to"), times)
        timing = ""
    for arm in dict.fromkeys(band.candidate for band in bands):
        known = [cells.get((arm, size)) for size in sizes]
        texts = [
            (
                significant(cell[0].baseline_us),
                significant(cell[0].candidate_us),
                change_cell(*cell),
            )
            if cell
            else ("", "", "")
            for cell in known
        ]
        yield _group(timing, arm, ("from", "to", "% "), texts)
        timing = ""


def _group(timing: str, arm: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Column:
    """Return one column with several texts in each row. The header has the arm's name and, if given, the timing."""
    widths = [max(map(len, texts)) for texts in zip(header, *rows, strict=True)]
    lines = [
        " ".join(f"{text:>{width}}" for text, width in zip(texts, widths, strict=True)) for texts in (header, *rows)
    ]
    names = fold(arm, _NAME)
    width = max(map(len, (*lines, *names)))
    above = [line.ljust(width) for line in (timing, *names)]
    return column(arm, (*above, lines[0]), lines[1:])
