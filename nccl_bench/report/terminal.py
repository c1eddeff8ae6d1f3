"""The report of a run or of a comparison for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress
from typing import ClassVar

from rich.text import Text

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.description import times_note
from nccl_bench.catalog.timings import TIMINGS
from nccl_bench.report import Detail
from nccl_bench.report.change_texts import SOME_SIZES
from nccl_bench.report.cost_split import cost_tables
from nccl_bench.report.headline import fact_entry, headline_entries
from nccl_bench.report.kernels import kernel_tables
from nccl_bench.report.layout import Remarks, Table
from nccl_bench.report.memory import memory_tables
from nccl_bench.report.question import question_tables
from nccl_bench.report.scenarios import scenario_tables
from nccl_bench.report.step_tables import step_tables
from nccl_bench.report.tables import measurement_tables, percentile_tables
from nccl_bench.report.text import TextReport
from nccl_bench.report.verdicts import analysis_remarks, heading, verdict_tables

# A table of step times has at most this many lines. With --full it has all messages.
_MOST_MESSAGES = 8
# More verdicts than this are printed only with --full. The marks in the first table show the verdicts too.
_MOST_VERDICTS = 16
_VERDICTS_ELSEWHERE = "--full prints the verdict of each band of sizes, with its interval."


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalReport(TextReport[Analysis]):
    """The headline, the table that answers the question, the verdicts, and remarks; all other tables if wanted."""

    detail: Detail = Detail.USUAL  # the amount of text

    highlights: ClassVar[Mapping[str, str]] = {
        r"[\d.]+x\b": "cyan",
        r"WRONG( \(\d+\))?|HANG|DEADLOCK|CRASH|DISCARDED": "bold red",
        r"\bfaster\b|-+\|": "green",
        r"\bslower\b|\|\++": "red",
        r"\bopen\b|\?": "yellow",
    }

    def _lines(self, content: Analysis) -> Iterator[Text]:
        for entry in headline_entries(content.headline):
            yield from self._entry(entry)
        if self.detail is Detail.QUIET:
            return
        if words := _words(content):
            yield from self._entry(fact_entry("Words", words))
        full = self.detail is Detail.FULL
        for table in step_tables(content, None if full else _MOST_MESSAGES):
            yield from self._fitting(table, "give --format json")
        tables = _untitled(list(question_tables(content, self.width, every_size=full)))
        for table in tables:
            yield from self._fitting(table, "give --format json")
        for table in scenario_tables(content):
            yield from self._fitting(table, "see summary.csv")
        verdicts = list(verdict_tables(content, only_answers=not full))
        shown = full or sum(len(table.columns[0].cells) for table in verdicts) <= _MOST_VERDICTS
        if content.comparisons and (shown or all(SOME_SIZES not in table.notes for table in tables)):
            yield Text()
            yield from self._wrapped(heading(content) if shown else _VERDICTS_ELSEWHERE, "bold" if shown else "")
        for table in (verdicts if full else _untitled(verdicts)) if shown else ():
            yield from self._fitting(table, "give --format json")
        for table in chain(kernel_tables(content), cost_tables(content, every_size=full)):
            yield from self._fitting(table, "see summary.csv")
        if full or not content.comparisons:
            for table in chain(measurement_tables(content), percentile_tables(content), memory_tables(content.metas)):
                yield from self._fitting(table, "see summary.csv")
        for remarks in analysis_remarks(content, hints=full):
            yield from self._remarks(remarks)
        # Other programs write averages too, so an import says what its times are.
        run = content.run
        left_out = times_note(run) if run and not run.is_import and not full else ""
        notes = [note for note in content.notes if note != left_out]
        if notes:
            yield from self._remarks(Remarks(title="Notes", items=notes, style="dim"))

    def _fitting(self, table: Table, elsewhere: str) -> Iterator[Text]:
        """Yield the title, the notes and the columns that fit, then a line with the names of all other columns."""
        columns, hidden = table.fit(self.width)
        if table.title or table.notes:
            yield Text()
            yield from self._heading(table)
        yield from self._table(columns, table.gap)
        if hidden:
            names = ", ".join(column.name for column in hidden)
            hint = f"Use a wider terminal or --width, or {elsewhere}."
            yield from self._wrapped(f"Not shown in a width of {self.width}: {names}. {hint}", "yellow")


def _untitled(tables: Sequence[Table]) -> Sequence[Table]:
    """Return ``tables``. If only one table has a title, remove the title, because the headline has it."""
    return [replace(table, title="") for table in tables] if sum(bool(table.title) for table in tables) == 1 else tables


def _words(analysis: Analysis) -> str:
    """Return what the names of the timings mean; empty if nothing was timed."""
    timed = {
        timing
        for _, rows in analysis.rows_of_runs
        for timing in compress(rows.column("timing"), rows.column("time_us"))
    }
    timed |= {each.timing for each in analysis.comparisons}
    words = [f"{timing} {spec.in_short}" for timing, spec in TIMINGS.items() if timing in timed]
    return f"{', '.join(words)}; see nccl-bench guide verdicts" if words else ""
