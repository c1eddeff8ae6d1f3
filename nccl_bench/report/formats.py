"""Markdown, CSV and JSON of tables and data. Only CSV imports pandas. For a terminal see the module ``text``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from nccl_bench.records.summary_csv import NUMBERS
from nccl_bench.report.layout import Remarks, Table

if TYPE_CHECKING:
    import pandas as pd


def markdown_table(table: Table) -> Iterator[str]:
    """Yield the title, the notes and the table with all its columns."""
    # A header of several lines becomes one line, and cells lose their padding.
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


def markdown_remarks(remarks: Remarks) -> Iterator[str]:
    """Yield the title and a list of the sentences; without a title, yield the sentences as paragraphs."""
    items = [" ".join(item.split()) for item in remarks.items]
    if remarks.title:
        yield from (f"**{remarks.title}**", "", *(f"- {item}" for item in items), "")
    else:
        yield from chain.from_iterable((item, "") for item in items)


def csv_text(frame: pd.DataFrame) -> str:
    """Return the header line and the rows of ``frame``."""
    return str(frame.to_csv(index=False, float_format=NUMBERS, lineterminator="\n"))


def json_text(content: Mapping[str, object]) -> str:
    """Return ``content`` as strict JSON, without NaN."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
