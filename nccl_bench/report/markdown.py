"""Markdown for a pull request: the headline and one table of verdicts; everything else is folded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, groupby

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.headline import Fact, Headline
from nccl_bench.report.band_table import band_table
from nccl_bench.report.cost_split import cost_tables
from nccl_bench.report.escaping import markdown_block, markdown_text
from nccl_bench.report.formats import markdown_remarks, markdown_table
from nccl_bench.report.kernels import kernel_tables
from nccl_bench.report.layout import Table
from nccl_bench.report.memory import memory_tables
from nccl_bench.report.scenarios import scenario_tables
from nccl_bench.report.step_tables import step_tables
from nccl_bench.report.tables import measurement_tables
from nccl_bench.report.verdicts import analysis_remarks, heading, time_tables, verdict_tables

# GitHub refuses a longer comment on a pull request.
MOST_CHARACTERS = 65_536
# Room for the line that names what is left out.
_FOR_LAST_LINE = 400
# A table with more lines than this is folded too.
_MOST_LINES = 40


def markdown_report(analysis: Analysis) -> str:
    """Return GitHub's Markdown: the headline and the verdicts by band of sizes; other tables and remarks are folded.

    A folded block for which ``MOST_CHARACTERS`` leaves no room is left out, and the last line names it.
    """
    lines, left_out = list(markdown_headline(analysis.headline)), []
    room = MOST_CHARACTERS - _FOR_LAST_LINE - _length(lines)
    for title, block in _blocks(analysis):
        fitting = _fitting(block, room)
        if fitting is None:
            left_out.append(title)
        else:
            lines += fitting
            room -= _length(fitting)
    if left_out:
        names = ", ".join(f'"{title}"' for title in left_out)
        lines += (
            f"Left out, because a comment on GitHub has at most {MOST_CHARACTERS} characters: {names}. "
            "`--to page.html` makes a page with everything.",
            "",
        )
    return "\n".join(lines)


def _blocks(analysis: Analysis) -> Iterator[tuple[str, Iterable[str]]]:
    """Yield what stands below the headline, with titles: the table of bands, then folded blocks."""

    def folded(title: str, lines: Iterable[str]) -> tuple[str, Iterable[str]]:
        return title, _folded(title, lines)

    def folded_if_long(title: str, table: Table) -> tuple[str, Iterable[str]]:
        lines = list(markdown_table(table))
        return folded(title, lines) if len(table.columns[0].cells) > _MOST_LINES else (title, lines)

    for of_step in step_tables(analysis):
        yield "Step time by message", list(markdown_table(of_step))
    bands = band_table(analysis)
    if bands is not None:
        yield folded_if_long("Verdicts by band of sizes", bands)
    for scenario in scenario_tables(analysis):
        yield folded_if_long(scenario.title, scenario)
    for remarks in analysis_remarks(analysis):
        yield folded(f"{remarks.title} ({len(remarks.items)})", list(markdown_remarks(remarks))[2:])
    yield "Commands", list(markdown_commands(analysis.headline))
    verdicts = list(verdict_tables(analysis))
    if verdicts:
        yield folded("Verdicts in detail", chain([heading(analysis), ""], _tables(verdicts)))
    yield folded("What NCCL ran", _tables(kernel_tables(analysis)))
    yield folded("Cost of a call", _tables(cost_tables(analysis, every_size=True)))
    # The headline of a run names less of the run than the title, such as how the times of an import were made.
    of_run = () if analysis.run is None else (f"{analysis.title}.",)
    notes = [text for note in (*of_run, *analysis.notes) for text in (markdown_text(note), "")]
    tables = chain(measurement_tables(analysis), time_tables(analysis), memory_tables(analysis.metas))
    yield folded("Notes and figures", chain(notes, _tables(tables)))


def _tables(tables: Iterable[Table]) -> Iterator[str]:
    return chain.from_iterable(map(markdown_table, tables))


def _fitting(block: Iterable[str], room: int) -> list[str] | None:
    """Return the lines of ``block``; ``None`` if they are longer than ``room``. Then stop before making all lines."""
    lines = []
    for line in block:
        room -= len(line) + 1
        if room < 0:
            return None
        lines.append(line)
    return lines


def _length(lines: Iterable[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def markdown_headline(headline: Headline) -> Iterator[str]:
    """Yield the title, the problems, the verdicts, and the facts without their commands."""
    yield from (f"**nccl-bench**: {markdown_text(headline.title)}", "")
    if headline.problems:
        yield from (f"- **{markdown_text(problem)}**" for problem in headline.problems)
        yield ""
    for about, lines in groupby(headline.lines, key=lambda line: line.about):
        if about:
            yield from (f"{markdown_text(about)}:", "")
        for line in lines:
            yield f"- **{line.label}** {' '.join(filter(None, (line.timing, markdown_text(line.text))))}"
        yield ""
    texts = [(fact, _without_command(fact)) for fact in headline.facts]
    # Omit facts that are only a command, or a command with the name of its side.
    facts = [f"- {markdown_text(fact.name)}: {markdown_text(text)}" for fact, text in texts if text != fact.side]
    if facts:
        yield from (*facts, "")


def markdown_commands(headline: Headline) -> Iterator[str]:
    """Yield the commands of the facts, folded; each is a block of code, which GitHub copies at a click."""
    lines: list[str] = []
    for fact in headline.facts:
        if fact.command:
            name = ", ".join(filter(None, (fact.name, fact.side)))
            lines += (f"{markdown_text(name)}:", "", *markdown_block(fact.command, "sh"), "")
    yield from _folded("Commands", lines)


def _without_command(fact: Fact) -> str:
    return fact.text.removesuffix(fact.command).rstrip(": ")


def _folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    """Yield ``lines`` in a block that opens at a click; nothing without lines.

    GitHub needs the empty lines around Markdown in a block.
    """
    rest = iter(lines)
    for first in rest:
        yield from (f"<details><summary>{title}</summary>", "", first)
        yield from rest
        yield from ("</details>", "")
