"""Markdown, CSV and JSON of tables and data. For a terminal see the module ``text``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from nccl_bench.records.summary_csv import NUMBERS
from nccl_bench.report.escaping import csv_cell, json_escapes, markdown_text, visible_data
from nccl_bench.report.layout import Remarks, Table


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
    yield _row(map(markdown_text, headers))
    yield _row("---" if number == 0 or column.left else "---:" for number, column in enumerate(table.columns))
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        yield _row(map(markdown_text, cells))
    yield ""


def markdown_remarks(remarks: Remarks) -> Iterator[str]:
    """Yield the title and a list of the sentences; without a title, yield the sentences as paragraphs."""
    items = list(map(markdown_text, remarks.items))
    if remarks.title:
        yield from (f"**{markdown_text(remarks.title)}**", "", *(f"- {item}" for item in items), "")
    else:
        yield from chain.from_iterable((item, "") for item in items)


def csv_text(names: Iterable[str], parts: Iterable[Mapping[str, Sequence[object]]]) -> str:
    """Return the header line, and a line for each entry of the columns in ``parts``; the field of ``None`` is empty."""
    lines = [",".join(map(_csv_field, names))]
    for columns in parts:
        lines += map(",".join, zip(*map(_csv_fields, columns.values()), strict=True))
    return "\n".join((*lines, ""))


def json_text(content: Mapping[str, object]) -> str:
    """Return ``content`` as strict JSON, without NaN."""
    return json_escapes(json.dumps(content, indent=2, allow_nan=False)) + "\n"


def encoded_json(content: object) -> str:
    """Return a msgspec structure, or plain data, as JSON. NaN and infinity become null."""
    import msgspec

    try:
        encoded = msgspec.json.encode(content)
    except UnicodeEncodeError:
        # A file name can have bytes that are no text, which Python keeps as halves of characters.
        encoded = msgspec.json.encode(visible_data(msgspec.to_builtins(content)))
    return json_escapes(msgspec.json.format(encoded, indent=2).decode()) + "\n"


def _csv_fields(values: Sequence[object]) -> list[str]:
    """Return the fields of a column. Equal values share one text."""
    if float in {*map(type, values)}:
        return [_csv_field(value) for value in values]
    fields = {value: _csv_field(value) for value in {*values}}
    return [fields[value] for value in values]


def _csv_field(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return NUMBERS % value
    text = csv_cell(str(value)) if isinstance(value, str) else str(value)
    return '"' + text.replace('"', '""') + '"' if "," in text or '"' in text else text


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
