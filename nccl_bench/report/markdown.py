"""Markdown, to paste into a pull request: the verdicts, what to know about them, and the figures folded away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from nccl_bench.analysis.comparison import of_run
from nccl_bench.records.run import Run
from nccl_bench.report import notes, verdicts
from nccl_bench.report.comparison import Comparative
from nccl_bench.report.layout import Table, counted
from nccl_bench.report.tables import CPU_NOTICE, measurement_tables


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkdownReport:
    """One run."""

    def render(self, run: Run) -> str:
        """Verdicts, failures and warnings, then every figure."""
        told = verdicts.of_pairs(of_run(run))
        gpus = run.meta["environment"].get("gpus") or [{}]
        device = gpus[0].get("name", run.device) if run.device == "cuda" else run.device
        lines = [f"**nccl-bench {run.meta['name']}**: {counted(run.world_size, 'rank')} on {device}", ""]
        if "source" in run.meta["config"]:
            lines += [notes.about(run), ""]
        if run.device == "cpu":
            lines += [CPU_NOTICE, ""]
        lines += _verdicts(told, verdicts.heading(told))
        lines += _items("", notes.failures(run))
        lines += _items("Warnings", chain(run.warnings, notes.doubts(run), verdicts.hints(told)))
        lines += _items("Not measured", notes.not_measured(run))
        return "\n".join([*lines, *_folded(measurement_tables(run))])


def comparative(found: Comparative) -> str:
    """Two sides."""
    lines = [f"**nccl-bench compare**: {found.title}", ""]
    lines += chain.from_iterable((note, "") for note in found.notes)
    lines += _verdicts(found.told, verdicts.heading(found.told, found.witnesses))
    lines += _items("Failures", found.failures)
    lines += _items("Warnings", chain(found.warnings, verdicts.hints(found.told, found.more)))
    lines += _items("Not compared", found.unmatched)
    lines += _items("Not measured", found.not_measured)
    times = list(verdicts.figures(found.told))
    return "\n".join([*lines, *(_folded(times) if times else [])])


def _folded(tables: Iterable[Table]) -> list[str]:
    lines = chain.from_iterable(map(_table, tables))
    return ["<details><summary>Figures</summary>", "", *lines, "</details>", ""]


def _verdicts(told: Sequence[verdicts.Told], heading: str) -> Iterator[str]:
    if told:
        yield from (heading, "")
    for table in verdicts.tables(told):
        yield from _table(table)


def _table(table: Table) -> list[str]:
    """Headers on several lines become one; cells are as they are, without their padding."""
    headers = [
        "".join(part.strip() + ("" if part.strip().endswith("-") else " ") for part in column.header).strip()
        for column in table.columns
    ]
    rows = zip(*(column.cells for column in table.columns), strict=True)
    return [
        f"**{table.title}**",
        *(f"\n{note}" for note in table.notes),
        "",
        _row(headers),
        _row(["---" if number == 0 or column.left else "---:" for number, column in enumerate(table.columns)]),
        *(_row(cell.strip() for cell in row) for row in rows),
        "",
    ]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _items(title: str, items: Iterable[str]) -> list[str]:
    lines = [f"- {' '.join(item.split())}" for item in items]
    return [*([f"**{title}**", ""] if title else []), *lines, ""] if lines else []
