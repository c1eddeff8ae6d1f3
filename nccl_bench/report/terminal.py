"""The report for a terminal: plain ASCII tables, with colour if the terminal has it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TextIO

from rich.text import Text

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.report.layout import Column, Table
from nccl_bench.report.tables import measurement_tables, percentile_tables
from nccl_bench.report.text import rendered, wrapped
from nccl_bench.report.verdicts import heading, verdict_tables

_STYLES = {
    r"[\d.]+x\b": "cyan",
    r"WRONG( \(\d+\))?|HANG|CRASH|DISCARDED": "bold red",
    r"\bfaster\b": "green",
    r"\bslower\b": "red",
    r"\binconclusive\b": "yellow",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalReport:
    """Tables and texts for a terminal."""

    width: int  # the most characters of a line
    styled: bool  # True adds colour and bold, and changes nothing else

    @classmethod
    def for_stream(cls, stream: TextIO, width: int | None = None) -> TerminalReport:
        """Return the report for ``stream``: by default as wide as the terminal or ``COLUMNS``, and 80 in a pipe."""
        return cls(width=width or shutil.get_terminal_size((80, 24)).columns, styled=stream.isatty())

    def render(self, analysis: Analysis) -> str:
        """Return every table, then what to know about them."""
        return rendered(self._lines(analysis), self.width, self.styled)

    def _lines(self, analysis: Analysis) -> Iterator[Text]:
        yield from self._wrapped(analysis.title, "bold")
        for note in analysis.notes:
            yield from self._wrapped(note, "dim")
        for table in chain(measurement_tables(analysis), percentile_tables(analysis)):
            yield from self._table(table, "see summary.csv")
        if analysis.comparisons:
            yield Text()
            yield from self._wrapped(f"Verdicts. {heading(analysis)}", "bold")
        for table in verdict_tables(analysis):
            yield from self._table(table, "give --format json")
        yield from self._items("Failures", analysis.failures, "bold red")
        yield from self._items("Warnings", (*analysis.warnings, *analysis.hints), "yellow")
        yield from self._items("Not compared", analysis.not_compared, "")
        yield from self._items("Not measured", analysis.not_measured, "")

    def _items(self, title: str, items: Iterable[str], style: str) -> Iterator[Text]:
        if items:
            yield from (Text(), Text(title, "bold"))
        for item in items:
            yield from self._wrapped(item, style, "- ")

    def _wrapped(self, text: str, style: str, bullet: str = "") -> Iterator[Text]:
        return (Text(line, style) for line in wrapped(text, self.width, bullet))

    def _table(self, table: Table, elsewhere: str) -> Iterator[Text]:
        """Yield the title, the notes and as many columns as fit, then the names of the columns that do not."""
        columns, hidden = table.fit(self.width)
        yield Text()
        yield from self._wrapped(table.title, "bold")
        for note in table.notes:
            yield from self._wrapped(note, "dim")
        yield Text()
        height = max(len(column.header) for column in columns)
        for level in range(-height, 0):
            style = "bold" if level < -1 or height == 1 else "dim"
            yield Text(table.line(_header(column, level) for column in columns), style)
        yield Text(table.line("-" * column.width for column in columns), "dim")
        for cells in zip(*(column.cells for column in columns), strict=True):
            text = Text(table.line(cells))
            for pattern, of_pattern in _STYLES.items():
                text.highlight_regex(pattern, of_pattern)
            yield text
        if hidden:
            names = ", ".join(column.name for column in hidden)
            hint = f"Use a wider terminal or --width, or {elsewhere}."
            yield from self._wrapped(f"Not shown in {self.width} columns: {names}. {hint}", "yellow")


def _header(column: Column, level: int) -> str:
    # Levels count from below, so that short headers stand on the rule.
    return column.header[level] if -level <= len(column.header) else " " * column.width
