"""A verification in every format: a table of arms by probes, with its failures and reasons below."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import ClassVar, TextIO

from rich.text import Text

from nccl_bench.analysis.wording import counted
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.report import NARROWEST_VERIFICATION, Detail, Format, Report
from nccl_bench.report.document import REPORT_VERSION
from nccl_bench.report.formats import csv_text, json_text, markdown_remarks, markdown_table
from nccl_bench.report.headline import headline_entries
from nccl_bench.report.layout import GAP, Table, column
from nccl_bench.report.markdown import markdown_commands, markdown_headline
from nccl_bench.report.text import TextReport
from nccl_bench.report.verification_remarks import NOT_RUN, WEAK, verification_remarks
from nccl_bench.report.verification_trials import trial_tables
from nccl_bench.verify.headline import verification_headline, weak_detections
from nccl_bench.verify.judgement import Judgement, ProbeStatus, Verification

_CELLS: Mapping[ProbeStatus, str] = {
    ProbeStatus.NOT_APPLICABLE: "-",
    ProbeStatus.UNVERIFIED: "?",
    ProbeStatus.NOT_RUN: NOT_RUN,
}
# The headings of long probes in a narrow terminal, which then shows all probes side by side.
_NARROW_HEADINGS: Mapping[str, tuple[str, str]] = {
    "producer": ("pro-", "ducer"),
    "consumer": ("con-", "sumer"),
    "allocator": ("allo-", "cator"),
    "capture": ("cap-", "ture"),
    "lifetime": ("life-", "time"),
}
_CSV_COLUMNS = ("arm", "probe", "status", "trials", "failed", "raced", "calls", "reason", "detail", "leaks")
SHARED_NOTICE = (
    "The ranks share {gpus}: NCCL treats each rank as a separate host, and the ranks communicate over the network."
)


def reports(stream: TextIO, width: int | None, detail: Detail = Detail.USUAL) -> dict[Format, Report[Verification]]:
    """Return the report of each format but the page; without ``width`` the width of ``stream`` applies.

    ``detail`` is the amount of text in a terminal.
    """
    return {
        Format.TERMINAL: replace(TerminalVerification.for_stream(stream, width), detail=detail).render,
        Format.MARKDOWN: markdown_verification,
        Format.CSV: csv_verification,
        Format.JSON: json_verification,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalVerification(TextReport[Verification]):
    """The table, in several parts if its columns do not fit, and the remarks. No line exceeds the width."""

    detail: Detail = Detail.USUAL  # the amount of text

    narrowest: ClassVar[int] = NARROWEST_VERIFICATION
    highlights: ClassVar[Mapping[str, str]] = {
        r"\bpass\b": "green",
        r"\b(FAIL|BLIND|error)\b": "bold red",
        r"\b(weak|missed|broken|leaks|\?)": "yellow",
    }

    def _lines(self, content: Verification) -> Iterator[Text]:
        for entry in headline_entries(verification_headline(content)):
            yield from self._entry(entry)
        if self.detail is Detail.QUIET:
            return
        if notices(content):
            yield Text()
        yield from self._cells(content)
        for remarks in verification_remarks(content):
            yield from self._remarks(remarks)
        for table in trial_tables(content) if self.detail is Detail.FULL else ():
            yield Text()
            yield from self._heading(table)
            yield from self._parts(table)

    def table_lines(self, content: Verification) -> Iterator[Text]:
        """Yield the title and the table, without the headline and the remarks."""
        yield from self._wrapped(_progress(content), "bold")
        yield from self._cells(content)

    def _cells(self, content: Verification) -> Iterator[Text]:
        table = _table(content, [(arm,) for arm in content.arms])
        for note in table.notes:
            yield from self._wrapped(note, "dim")
        if self._space(table) < len(content.probes):
            folded = [_fold(arm) for arm in content.arms]
            longest = max(len(line) for lines in folded for line in lines)
            pairs = zip(content.arms, folded, strict=True)
            labels = [(arm,) if len(arm) <= longest else lines for arm, lines in pairs]
            table = _table(content, labels)
            if self._space(table) < len(content.probes):
                table = _table(content, labels, _NARROW_HEADINGS)
        gap = max(1, min(GAP, self._space(table) // len(content.probes)))
        yield from self._parts(replace(table, gap=gap))

    def _parts(self, table: Table) -> Iterator[Text]:
        """Yield the table. Columns that do not fit follow in more tables, each with the first ``keep`` - 1 columns."""
        repeated, rest = table.columns[: table.keep - 1], table.columns[table.keep - 1 :]
        while rest:
            shown, rest = replace(table, columns=repeated + rest).fit(self.width)
            yield from self._table(shown, table.gap)

    def _space(self, table: Table) -> int:
        """Return how many characters are left for the gaps of the table; below 0 if the table does not fit."""
        return self.width - sum(column.width for column in table.columns)


def markdown_verification(content: Verification) -> str:
    """Return GitHub's Markdown, to paste into a pull request: the table and the remarks."""
    headline = verification_headline(content)
    lines = list(markdown_headline(headline))
    lines += markdown_table(_table(content, [(arm,) for arm in content.arms]))
    for remarks in verification_remarks(content):
        lines += markdown_remarks(remarks)
    lines += markdown_commands(headline)
    return "\n".join(lines)


def csv_verification(content: Verification) -> str:
    """Return a header line, and a line for each arm and probe; the field of a value that does not apply is empty."""
    records = [
        {**_to_mapping(judgement), "leaks": "; ".join(judgement.finding.leaks) or None if judgement.finding else None}
        for judgement in content.judgements
    ]
    return csv_text(_CSV_COLUMNS, [{name: [record.get(name) for record in records] for name in _CSV_COLUMNS}])


def json_verification(content: Verification) -> str:
    """Return the whole verification as JSON; the module ``document`` has its schema."""
    return json_text(
        {
            "kind": "verification",
            "report_version": REPORT_VERSION,
            **content.facts,
            "device": content.device,
            "world_size": content.world_size,
            "gpus": content.gpus,
            "planned": content.planned,
            "ran": content.ran,
            "blind": content.blind,
            "exit_code": int(content.exit_code),
            "process_sets": [asdict(processes) for processes in content.processes],
            "headline": asdict(verification_headline(content)),
            "notes": content.notes,
            "cells": [_to_mapping(judgement) for judgement in content.judgements],
        }
    )


def _to_mapping(judgement: Judgement) -> dict[str, object]:
    finding = {**asdict(judgement.finding), "calls": judgement.finding.calls} if judgement.finding else {}
    mapping = {"arm": judgement.arm, "probe": judgement.probe, "status": judgement.status, "reason": judgement.reason}
    return {key: value for key, value in {**mapping, **finding}.items() if value is not None}


def _progress(verification: Verification) -> str:
    return f"Stream order: {verification.ran} of {counted(verification.planned, 'probe')} ran, counted for each arm"


def table_cells(verification: Verification) -> dict[tuple[str, str], str]:
    """Return the cell of each arm and probe in the table."""
    weak = {detection.probe for detection in weak_detections(verification)}
    return {
        (judgement.arm, judgement.probe): WEAK
        if judgement.status is ProbeStatus.PASS and judgement.probe in weak
        else _CELLS.get(judgement.status, str(judgement.status))
        for judgement in verification.judgements
    }


def _table(
    verification: Verification, labels: Sequence[Sequence[str]], headings: Mapping[str, tuple[str, str]] = {}
) -> Table:
    """Return the table of arms by probes. ``labels`` has the lines of each arm's name, ``headings`` of each probe's."""

    def head(name: str) -> tuple[str, ...]:
        return headings.get(name, ("", name)) if headings else (name,)

    cells = table_cells(verification)
    columns = [column("arm", head("arm"), list(chain.from_iterable(labels)), left=True)]
    for probe in verification.probes:
        texts = [
            (cells.get((arm, probe), ""), *("" for _ in label[1:]))
            for arm, label in zip(verification.arms, labels, strict=True)
        ]
        columns.append(column(probe, head(probe), list(chain.from_iterable(texts)), left=True))
    return Table(
        title="",
        notes=notices(verification),
        columns=tuple(columns),
        keep=2,
    )


def notices(verification: Verification) -> tuple[str, ...]:
    """Return what the verification does not show on its device."""
    notices = [DEVICES[verification.device].order_notice]
    if verification.gpus is not None and verification.gpus < verification.world_size:
        notices.append(SHARED_NOTICE.format(gpus=counted(verification.gpus, "GPU")))
    return tuple(filter(None, notices))


def _fold(arm: str) -> tuple[str, ...]:
    """Return the name in two lines, split at the hyphen that gives the least width; without a hyphen, in one line."""
    splits = [(arm[:at], "  " + arm[at:]) for at, letter in enumerate(arm) if letter == "-"]
    return min([(arm,), *splits], key=lambda lines: max(map(len, lines)))
