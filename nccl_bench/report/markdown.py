"""Markdown to paste into a pull request: the verdicts, what to know about them, and the figures folded away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.report.layout import Table
from nccl_bench.report.tables import measurement_tables
from nccl_bench.report.verdicts import heading, time_tables, verdict_tables


class MarkdownReport:
    """GitHub's Markdown."""

    def render(self, analysis: Analysis) -> str:
        """Return verdicts, failures and warnings, then the figures."""
        lines = [f"**nccl-bench**: {analysis.title}", ""]
        lines += chain.from_iterable((note, "") for note in analysis.notes)
        if analysis.comparisons:
            lines += (heading(analysis), "")
        lines += chain.from_iterable(map(_table, verdict_tables(analysis)))
        lines += _items("Failures", analysis.failures)
        lines += _items("Warnings", (*analysis.warnings, *analysis.hints))
        lines += _items("Not compared", analysis.not_compared)
        lines += _items("Not measured", analysis.not_measured)
        figures = list(chain.from_iterable(map(_table, chain(measurement_tables(analysis), time_tables(analysis)))))
        if figures:
            lines += ("<details><summary>Figures</summary>", "", *figures, "</details>", "")
        return "\n".join(lines)


def _table(table: Table) -> Iterator[str]:
    # A header of several lines becomes one, and cells lose their padding.
    headers = [
        "".join(part.strip() + ("" if part.strip().endswith("-") else " ") for part in column.header).strip()
        for column in table.columns
    ]
    yield f"**{table.title}**"
    yield from (f"\n{note}" for note in table.notes)
    yield ""
    yield _row(headers)
    yield _row("---" if number == 0 or column.left else "---:" for number, column in enumerate(table.columns))
    yield from map(_row, zip(*(column.cells for column in table.columns), strict=True))
    yield ""


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _items(title: str, items: Iterable[str]) -> list[str]:
    lines = [f"- {' '.join(item.split())}" for item in items]
    return [f"**{title}**", "", *lines, ""] if lines else []
