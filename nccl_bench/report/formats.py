"""Markdown, CSV and JSON of tables and data. Only CSV imports pandas. For a terminal see the module ``text``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from nccl_bench.records.summary_csv import NUMBERS
from nccl_bench.report.layout import Remarks, Table

if TYPE_CHECKING:
    import pandas as pd

_CODE = re.compile(r"(`[^`]+`)")
# What Markdown takes as a mark: HTML, links, emphasis, and an underscore at the edge of a word.
_MARKS = re.compile(r"[\\*<\[\]`~]|(?<![^\W_])_|_(?![^\W_])")
_AT_START = re.compile(r"^(\d*)([#>+.)-])(?=\s|#|$)")


def markdown_table(table: Table) -> Iterator[str]:
    """Yield the title, the notes and the table with all its columns."""
    # A header of several lines becomes one line, and cells lose their padding.
    headers = [
        "".join(part.strip() + ("" if part.strip().endswith("-") else " ") for part in column.header).strip()
        for column in table.columns
    ]
    if table.title:
        yield f"**{markdown_text(table.title)}**"
    yield from (f"\n{markdown_text(note)}" for note in table.notes)
    yield ""
    yield _row(headers)
    yield _row("---" if number == 0 or column.left else "---:" for number, column in enumerate(table.columns))
    yield from map(_row, zip(*(column.cells for column in table.columns), strict=True))
    yield ""


def markdown_remarks(remarks: Remarks) -> Iterator[str]:
    """Yield the title and a list of the sentences; without a title, yield the sentences as paragraphs."""
    items = [markdown_text(" ".join(item.split())) for item in remarks.items]
    if remarks.title:
        yield from (f"**{remarks.title}**", "", *(f"- {item}" for item in items), "")
    else:
        yield from chain.from_iterable((item, "") for item in items)


def markdown_text(text: str) -> str:
    """Return ``text`` so that GitHub shows it as it is: names can contain what Markdown takes as a mark.

    Text between backticks stays code. Underscores within a word are no marks. A number sign or another mark of a list
    or a heading counts only at the start. A pipe is left to tables.
    """
    parts = _CODE.split(text)
    # Every second part is between backticks.
    escaped = [part if index % 2 else _MARKS.sub(r"\\\g<0>", part) for index, part in enumerate(parts)]
    return _AT_START.sub(r"\1\\\2", "".join(escaped))


def csv_text(frame: pd.DataFrame) -> str:
    """Return the header line and the rows of ``frame``."""
    return str(frame.to_csv(index=False, float_format=NUMBERS, lineterminator="\n"))


def json_text(content: Mapping[str, object]) -> str:
    """Return ``content`` as strict JSON, without NaN."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(markdown_text(" ".join(cell.split())).replace("|", "\\|") for cell in cells) + " |"
