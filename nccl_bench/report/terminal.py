"""The report a person reads: plain ASCII tables, with colour where the terminal has it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TextIO

from rich.text import Text

from nccl_bench.analysis.comparison import of_run
from nccl_bench.records.run import Run
from nccl_bench.report import notes, verdicts
from nccl_bench.report.layout import Column, Table, counted
from nccl_bench.report.tables import measurement_tables, percentile_tables
from nccl_bench.report.text import rendered, wrapped

_STYLES = {
    r"[\d.]+x\b": "cyan",
    r"WRONG( \(\d+\))?|HANG|CRASH|DISCARDED": "bold red",
    r"\bfaster\b": "green",
    r"\bslower\b": "red",
    r"\binconclusive\b": "yellow",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalReport:
    """Tables that fit in ``width`` cells; ``styled`` adds colour and bold, and nothing else changes with it."""

    width: int
    styled: bool

    @classmethod
    def for_stream(cls, stream: TextIO, width: int | None = None) -> TerminalReport:
        """The report for what ``stream`` is: ``COLUMNS`` or the terminal's width unless given, 80 in a pipe."""
        return cls(width=width or shutil.get_terminal_size((80, 24)).columns, styled=stream.isatty())

    def render(self, run: Run) -> str:
        """Every table, then what to know about them."""
        told = verdicts.of_pairs(of_run(run))
        return rendered(
            chain(
                self._head(run),
                *(table_lines(table, self.width) for table in chain(measurement_tables(run), percentile_tables(run))),
                self._verdicts(told),
                self._list("", notes.failures(run), "bold red"),
                self._list("Warnings", chain(run.warnings, notes.doubts(run), verdicts.hints(told)), "yellow"),
                self._list("Not measured", notes.not_measured(run), ""),
            ),
            self.width,
            self.styled,
        )

    def _head(self, run: Run) -> Iterable[Text]:
        gpus = run.meta["environment"].get("gpus") or [{}]
        device = gpus[0].get("name", run.device) if run.device == "cuda" else run.device
        title = f"{run.meta['name']}: {counted(run.world_size, 'rank')} on {device}, {run.meta['started']}"
        status = run.meta["status"]
        yield from self._wrapped(title if status == "complete" else f"{title}, {status.upper()}", "bold")
        yield from self._wrapped(notes.about(run), "dim")
        for text in notes.brought(run):
            yield from self._wrapped(text, "dim")

    def _verdicts(self, told: Sequence[verdicts.Told]) -> Iterable[Text]:
        if told:
            yield Text()
            yield from self._wrapped(f"Verdicts. {verdicts.heading(told)}", "bold")
        for table in verdicts.tables(told):
            yield from table_lines(table, self.width)

    def _list(self, title: str, items: Iterable[str], style: str) -> Iterable[Text]:
        items = list(items)
        if not items:
            return
        yield Text()
        if title:
            yield Text(title, "bold")
        for item in items:
            yield from self._wrapped(item, style, bullet="- " if title else "")

    def _wrapped(self, text: str, style: str, bullet: str = "") -> Iterable[Text]:
        return (Text(line, style) for line in wrapped(text, self.width, bullet))


def table_lines(table: Table, width: int, elsewhere: str = "see summary.csv") -> Iterator[Text]:
    """An empty line, title, notes and as many columns as fit in ``width`` cells; ``elsewhere`` the rest is."""
    shown, hidden = table.fit(width)
    yield Text()
    yield from (Text(line, "bold") for line in wrapped(table.title, width))
    for note in table.notes:
        yield from (Text(line, "dim") for line in wrapped(note, width))
    yield Text()
    height = max(len(column.header) for column in shown)
    for level in range(-height, 0):
        yield _line(table, [_level(column, level) for column in shown], "bold" if level < -1 or height == 1 else "dim")
    yield _line(table, ["-" * column.width for column in shown], "dim")
    for cells in zip(*(column.cells for column in shown), strict=True):
        text = _line(table, cells, "")
        for pattern, style in _STYLES.items():
            text.highlight_regex(pattern, style)
        yield text
    if hidden:
        names = ", ".join(column.name for column in hidden)
        yield from (
            Text(line, "yellow")
            for line in wrapped(
                f"Not shown in {width} columns: {names}. Use a wider terminal or --width, or {elsewhere}.", width
            )
        )


def _line(table: Table, cells: Iterable[str], style: str) -> Text:
    return Text((" " * table.gap).join(cells).rstrip(), style)


def _level(column: Column, level: int) -> str:
    """The header's line ``level``, counted from below: short headers stand on the rule."""
    return column.header[level] if -level <= len(column.header) else " " * column.width
