"""The messages in recordings, in every format. Ranks that sent the same messages share a table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import ClassVar, TextIO

from rich.text import Text

from nccl_bench.analysis.wording import counted, joined, size_with_unit
from nccl_bench.report import NARROWEST_TRAFFIC, Format, Report
from nccl_bench.report.formats import csv_text, json_text, markdown_remarks, markdown_table
from nccl_bench.report.layout import Column, Remarks, Table, column
from nccl_bench.report.text import TextReport
from nccl_bench.traces.joining import Traffic
from nccl_bench.traces.recording import Mode
from nccl_bench.traces.rows import Row, rows_of

# More tables than this are too many to compare by eye.
_MOST_TABLES = 4
# The most files, or ranks, that are named one by one.
_MOST_FILES = 8
# The most streams, or kernels, of one message that a table names.
_MOST_NAMES = 3
_UNKNOWN = "?"
_GAP = 2
# Columns whose cells begin at the left, columns that are left out if no row has a value, and a header in two lines.
_TEXTS = ("collective", "dtype", "made", "stream", "NCCL ran")
_IF_KNOWN = ("stream", "NCCL ran")
_HEADERS: Mapping[str, tuple[str, ...]] = {"one rank sends": ("one rank", "sends")}
_NOT_KNOWN = "What is not known"
_WORDS: Mapping[Mode, str] = {Mode.EAGER: "eager", Mode.GRAPH: "in graphs", Mode.UNKNOWN: "eager or captured"}


def reports(stream: TextIO, width: int | None) -> dict[Format, Report[Sequence[Traffic]]]:
    """Return the report of each format; without ``width`` the width of ``stream`` applies."""
    return {
        Format.TERMINAL: TerminalTraffic.for_stream(stream, width).render,
        Format.MARKDOWN: markdown_traffic,
        Format.CSV: csv_traffic,
        Format.JSON: json_traffic,
    }


class TerminalTraffic(TextReport[Sequence[Traffic]]):
    """A headline, a table and remarks for each group of ranks that sent the same messages."""

    narrowest: ClassVar[int] = NARROWEST_TRAFFIC

    def _lines(self, content: Sequence[Traffic]) -> Iterator[Text]:
        parts = _parts(content)
        for number, part in enumerate(parts):
            if number:
                yield Text()
            yield from self._heading(part.table)
            shown, hidden = part.table.fit(self.width)
            yield from self._table(shown, part.table.gap)
            if hidden:
                names = joined([each.name for each in hidden])
                hint = f"Not shown in this width: {names}. Give a larger --width, or --format csv."
                yield from self._remarks(Remarks(title="", items=(hint,), style="dim"))
            if part.remarks:
                yield from self._remarks(Remarks(title=_NOT_KNOWN, items=part.remarks))
        if more := _more_ranks(parts, content):
            yield from self._remarks(Remarks(title="", items=(more,)))


def markdown_traffic(content: Sequence[Traffic]) -> str:
    """Return GitHub's Markdown: a table and a list of remarks for each group of ranks that sent the same messages."""
    parts = _parts(content)
    lines: list[str] = []
    for part in parts:
        lines += markdown_table(part.table)
        lines += markdown_remarks(Remarks(title=_NOT_KNOWN, items=part.remarks)) if part.remarks else ()
    if more := _more_ranks(parts, content):
        lines += markdown_remarks(Remarks(title="", items=(more,)))
    return "\n".join(lines)


def csv_traffic(content: Sequence[Traffic]) -> str:
    """Return a header line, and a line for each message of each rank. What is not known is empty."""
    names = [field.name for field in fields(Row)]
    lines = [
        {
            "rank": traffic.rank,
            **asdict(row),
            "mode": row.mode.value,
            "streams": " ".join(row.streams),
            "kernels": "; ".join(row.kernels),
        }
        for traffic in content
        for row in rows_of(traffic)
    ]
    columns = ("rank", *names)
    return csv_text(columns, [{name: [line[name] for line in lines] for name in columns}])


def json_traffic(content: Sequence[Traffic]) -> str:
    """Return JSON: an object for each rank, with its files, its messages and what is not known."""
    ranks = [
        {
            "rank": traffic.rank,
            "files": list(traffic.files),
            "unused": list(traffic.unused),
            "messages": [asdict(row) for row in rows_of(traffic)],
            "remarks": list(traffic.remarks),
        }
        for traffic in content
    ]
    return json_text({"ranks": ranks})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The shown part of a report about ranks that sent the same messages."""

    ranks: int  # the number of the ranks
    table: Table  # the messages, below the ranks and their files
    remarks: Sequence[str]  # what is not known


def _parts(content: Sequence[Traffic]) -> Sequence[_Part]:
    """Return the first groups of ranks that sent the same messages."""
    groups: dict[tuple[Row, ...], list[Traffic]] = {}
    for traffic in content:
        # Streams are numbered in each process, and NCCL logs on rank 0 what it runs.
        same = tuple(replace(row, streams=(), kernels=()) for row in rows_of(traffic))
        groups.setdefault(same, []).append(traffic)
    return [_part(ranks) for ranks in list(groups.values())[:_MOST_TABLES]]


def _more_ranks(parts: Sequence[_Part], content: Sequence[Traffic]) -> str:
    """Return a sentence about the ranks that no part has; an empty text if there are none."""
    more = len(content) - sum(part.ranks for part in parts)
    return f"{counted(more, 'more rank')} sent something else: see --format csv." if more else ""


def _part(ranks: Sequence[Traffic]) -> _Part:
    rows = rows_of(next((traffic for traffic in ranks if traffic.kernels), ranks[0]))
    calls = {mode: sum(row.calls for row in rows if row.mode is mode) for mode in Mode}
    each = " each" if len(ranks) > 1 else ""
    parts = [f"{count} {_WORDS[mode]}" for mode, count in calls.items() if count]
    title = f"{_names(ranks)}: {counted(sum(calls.values()), 'call')}{each}" + (f", {joined(parts)}" if parts else "")
    used, unused = (_files([getattr(traffic, which) for traffic in ranks]) for which in ("files", "unused"))
    notes = (f"From {used}.", *((f"Not needed: {unused}.",) if unused else ()))
    remarks = dict.fromkeys(remark for traffic in ranks for remark in traffic.remarks)
    table = Table(title=title, notes=notes, columns=tuple(_columns(rows)), keep=3, gap=_GAP)
    return _Part(ranks=len(ranks), table=table, remarks=[f"{remark}." for remark in remarks])


def _files(of_ranks: Sequence[Sequence[str]]) -> str:
    files = list(dict.fromkeys(file for files in of_ranks for file in files))
    if len(files) > _MOST_FILES:
        return f"{len(files)} files, the first of which is {files[0]}"
    return joined(files) if files else ""


def _names(ranks: Sequence[Traffic]) -> str:
    names = [str(traffic.rank) for traffic in ranks if traffic.rank is not None]
    if not names:
        return "One rank" if len(ranks) == 1 else f"{len(ranks)} ranks"
    if len(names) > _MOST_FILES:
        return f"{len(names)} ranks from {names[0]} to {names[-1]}"
    return f"Rank {names[0]}" if len(names) == 1 else f"Ranks {joined(names)}"


def _columns(rows: Sequence[Row]) -> Iterator[Column]:
    cells: Mapping[str, tuple[str, ...]] = {
        "collective": tuple(f"{row.collective} (uneven)" if row.uneven else row.collective for row in rows),
        "dtype": tuple(row.dtype or _UNKNOWN for row in rows),
        "size": tuple(_size(row.size_bytes) for row in rows),
        "one rank sends": tuple(_size(row.sent_bytes) for row in rows),
        "ranks": tuple(_UNKNOWN if row.ranks is None else str(row.ranks) for row in rows),
        "made": tuple(_UNKNOWN if row.mode is Mode.UNKNOWN else row.mode.value for row in rows),
        "calls": tuple(str(row.calls) for row in rows),
        "stream": tuple(_listed(row.streams) for row in rows),
        "NCCL ran": tuple(_listed(row.kernels) for row in rows),
    }
    for name, of_rows in cells.items():
        if name not in _IF_KNOWN or {*of_rows} - {_UNKNOWN}:
            yield column(name, _HEADERS.get(name, (name,)), of_rows, left=name in _TEXTS)


def _size(size: int | None) -> str:
    return _UNKNOWN if size is None else size_with_unit(size)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "") or _UNKNOWN
