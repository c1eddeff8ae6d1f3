"""The table that answers the question: for each size the times of both arms, what is saved, and the change.

If there are several arms, each has its time and its change. If the times are relative to a shared arm, the change of
that arm itself stands in place of what is saved. All timings stand side by side if that fits, else in two tables, else
below each other. In a narrow terminal, columns are left out: first the bar, then what is saved, then the times. The
change of an arm in question is never left out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.catalog.timings import Timing
from nccl_bench.report.change_texts import (
    MARKS_NOTE,
    SOME_SIZES,
    bar,
    bar_header,
    letters,
    sizes_column,
)
from nccl_bench.report.layout import Column, Table, column, fold
from nccl_bench.report.question_kinds import KindOfCase, kinds_of
from nccl_bench.report.sides_table import sides_tables

# If all blocks together have at most this many lines, blocks with every column are better than a narrow table.
_MOST_LINES = 40
# The columns that are left out, the first one first.
_LEFT_OUT = ("bar", "saved", "time", "baseline")
_BAR_OF_BLOCK, _BAR_SIDE_BY_SIDE = 10, 4
_GAP = 1
# A short name of the baseline.
_BASE = "base"
# A longer name of an arm is divided at a hyphen. An even longer name of a pair is not shown above the pair's columns.
_NAME, _SHORT_NAME = 8, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """A choice of columns."""

    left_out: frozenset[str]  # the columns that are left out, of `_LEFT_OUT`
    bar: int  # the largest number of characters on each side of a bar
    short: bool  # True if short words or letters stand for the names of arms
    base: bool = False  # True if the word base stands for the name of the baseline of several candidates


def question_tables(analysis: Analysis, width: int, *, every_size: bool = False) -> Iterator[Table]:
    """Yield a table for each kind of case. If these are wider than ``width``, yield a table for each timing.

    If there are many sizes, some are left out, unless ``every_size``. A later table explains only what is new.
    """
    explained: tuple[str, ...] = ()
    of_sides = sides_tables(analysis, width, every_size=every_size)
    for table in of_sides or _fitting_tables(list(kinds_of(analysis, every_size)), width):
        yield replace(table, notes=tuple(note for note in table.notes if note not in explained))
        explained = table.notes or explained


def _fitting_tables(kinds: Sequence[KindOfCase], width: int) -> Iterator[Table]:
    lines_of_blocks = sum(len(kind.part([timing]).sizes) for kind in kinds for timing in kind.timings)
    for kind in kinds:
        side_by_side, halves, blocks = _side_by_side(kind), _side_by_side(kind, tables=2), _blocks(kind)
        wide = [layout for layout in _layouts(side=True) if kind.alone or {"bar", "saved"} <= layout.left_out]
        choices: list[tuple[Callable[[_Layout], list[Table]], _Layout]] = [(side_by_side, wide[0])]
        choices += [(halves, wide[0])] if kind.alone else []
        if kind.alone and lines_of_blocks <= _MOST_LINES:
            choices += [(blocks, layout) for layout in _layouts(side=False)[:2]]
        # One table without bars is better than two tables, but two tables are better than one without numbers.
        for _, layouts in groupby(wide, key=lambda layout: layout.left_out - {"bar"}):
            choices += [(make, layout) for make, layout in product((side_by_side, halves), layouts)]
        choices += [(blocks, layout) for layout in _layouts(side=False)]
        for make, layout in choices:
            tables = make(layout)
            if all(table.width <= width for table in tables):
                break
        yield from tables


def _layouts(*, side: bool) -> list[_Layout]:
    """Return the layouts, the widest first."""
    bar = _BAR_SIDE_BY_SIDE if side else _BAR_OF_BLOCK
    return [
        _Layout(left_out=frozenset(_LEFT_OUT[:count]), bar=bar, short=short, base=base)
        for count in range(len(_LEFT_OUT) + 1)
        for short, base in ((False, False), (False, True), (True, True))
    ]


def _side_by_side(kind: KindOfCase, tables: int = 1) -> Callable[[_Layout], list[Table]]:
    """Return a function that puts the timings next to each other, in this number of ``tables``."""
    count = -(-len(kind.timings) // tables)
    timings_of_tables = [kind.timings[first : first + count] for first in range(0, len(kind.timings), count)]
    parts = [(timings, kind.part(timings)) for timings in timings_of_tables]

    def make(layout: _Layout) -> list[Table]:
        columns = [_timings_in_a_row(part, timings, layout) for timings, part in parts]
        titles = [kind.name, *[""] * (len(parts) - 1)]
        return _tables([part for _, part in parts], titles, columns, layout)

    return make


def _timings_in_a_row(kind: KindOfCase, timings: Sequence[Timing], layout: _Layout) -> list[Column]:
    columns = [sizes_column(kind.sizes)]
    for timing in timings:
        first, *following = _columns(kind, timing, layout)
        height = max(len(each.header) for each in (first, *following))
        # The name of the timing stands above its first column.
        columns += [
            _below(first, timing, height, indent="" if layout.short else " "),
            *(_below(each, "", height) for each in following),
        ]
    return columns


def _blocks(kind: KindOfCase) -> Callable[[_Layout], list[Table]]:
    parts = [(timing, kind.part([timing])) for timing in kind.timings]

    def make(layout: _Layout) -> list[Table]:
        columns = [[sizes_column(part.sizes), *_columns(part, timing, layout)] for timing, part in parts]
        titles = [f"{kind.name}, {timing}" for timing, _ in parts]
        return _tables([part for _, part in parts], titles, columns, layout)

    return make


def _tables(
    parts: Sequence[KindOfCase], titles: Sequence[str], columns: Sequence[Sequence[Column]], layout: _Layout
) -> list[Table]:
    """Return a table for each of ``parts``, which are of one kind. The first table has the notes about all tables."""
    notes = [_notes(parts, layout), *[()] * (len(parts) - 1)]
    return [
        Table(title=title, notes=of_table, columns=tuple(of_part), keep=2, gap=_GAP)
        for title, of_table, of_part in zip(titles, notes, columns, strict=True)
    ]


def _notes(parts: Sequence[KindOfCase], layout: _Layout) -> tuple[str, ...]:
    """Return the notes that explain the columns and the marks of ``parts``, which are of one kind."""
    kind = parts[0]
    arms, change = "", f"against {kind.baseline}"
    if layout.base and not kind.alone and "baseline" not in layout.left_out:
        change = f"against {_BASE}, which is {kind.baseline}"
    if kind.alone and not _names_in_header(kind, layout):
        change = f"from {kind.baseline} to {kind.candidates[0]}"
    elif layout.short and not kind.alone:
        arms = f"{', '.join(f'{letters(number)} {arm}' for number, arm in enumerate(kind.candidates))}. "
    times = "" if {"saved", "time", "baseline"} <= layout.left_out else f"Times in {kind.times}; "
    notes = [f"{arms}{times}% {change}: {MARKS_NOTE}"]
    if kind.shared_arm is not None:
        base = "" if "saved" in layout.left_out else " The column base is the change of that arm itself."
        notes.append(
            f"% is the change of the times divided by those of {kind.shared_arm}, not of the times alone.{base}"
        )
    elif "saved" not in layout.left_out:
        notes.append(f"The column saved is the time that a {kind.unit} saves, - if it takes longer.")
    if kind.of_one_run:
        saved = "% is" if "saved" in layout.left_out else "% and saved are"
        notes.append(f"{saved} computed from times of the same round, not from the medians shown.")
    notes += dict.fromkeys(note for part in parts for note in part.mark_notes)
    if not kind.is_complete:
        notes.append(SOME_SIZES)
    return tuple(notes)


def _below(of: Column, text: str, height: int, indent: str = "") -> Column:
    """Return the column with ``text`` above the ``height`` lines of its header, and ``indent`` at its left."""
    header = (text, *[""] * (height - len(of.header)), *of.header)
    return column(of.name, tuple(indent + line for line in header), [indent + cell for cell in of.cells])


def _columns(kind: KindOfCase, timing: Timing, layout: _Layout) -> list[Column]:
    """Return the columns of one timing that ``layout`` does not leave out."""
    shown = [name for name in _LEFT_OUT if name not in layout.left_out]
    names = _names_in_header(kind, layout)
    columns = []
    if "baseline" in shown:
        name = kind.baseline if names or not kind.alone else "from"
        name = _BASE if layout.base and not kind.alone else name
        columns.append(column(kind.baseline, (*fold(name, _NAME), "us"), kind.baseline_times[timing]))
    for number, arm in enumerate(kind.candidates):
        texts = kind.texts[timing, arm]
        changes = texts.changes
        name = letters(number) if layout.short else arm
        above = () if kind.alone else fold(name, _NAME)
        if "time" in shown:
            name = arm if names or not kind.alone else "to"
            columns.append(column(arm, (*fold(name, _NAME), "us"), texts.times))
        else:
            changes = [change or mark for change, mark in zip(changes, texts.marks, strict=True)]
        if "saved" in shown:
            columns.append(column(arm, (*above, "saved" if kind.shared_arm is None else "base"), texts.saved))
        columns.append(column(arm, (*(above if "time" not in shown else ()), "% "), changes))
        if "bar" in shown:
            bars = [bar(ratio, kind.largest_change, layout.bar) for ratio in texts.ratios]
            columns.append(column(arm, (bar_header(layout.bar),), bars, left=True))
    return columns


def _names_in_header(kind: KindOfCase, layout: _Layout) -> bool:
    """Return True if the names of a pair of arms stand above its columns, and not the words from and to."""
    return not layout.short and max(len(kind.baseline), len(kind.candidates[0])) <= _SHORT_NAME
