"""The data of the tables that the reader sorts, filters and saves: all numbers of a page."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.summary import COLUMNS
from nccl_bench.report.html.rounding import rounded
from nccl_bench.report.json import comparison_record

# The columns that are shown at first. The reader can show the others.
_MAIN = frozenset(
    {
        *("compared", "collective", "dtype", "placement", "size_bytes", "arm", "timing", "status"),
        *("time_us", "before_us", "after_us", "baseline_us", "candidate_us"),
        *("ratio", "ratio_low", "ratio_high", "verdict", "noise_floor", "busbw_gb_s", "rounds"),
    }
)


# The types of the values of a numeric column.
_NUMBERS = frozenset({int, float, bool, type(None)})
# The significant digits of a number in the table.
_DIGITS = 6
# A browser shows this many rows quickly. The CSV of a longer run has all rows.
MOST_ROWS = 20_000


def numbers(analysis: Analysis) -> dict[str, object]:
    """Return the columns of ``summary.csv``, or of the comparisons of two sides."""
    columns: Mapping[str, Sequence[object]]
    if analysis.run is not None:
        helps, count = COLUMNS, len(analysis.rows)
        columns = analysis.rows[:MOST_ROWS].columns()
    else:
        compared = analysis.comparisons[:MOST_ROWS]
        helps, count = {}, len(analysis.comparisons)
        records = [comparison_record(each, analysis.sides) for each in compared]
        names = dict.fromkeys(name for record in records for name in record)
        columns = {name: [record.get(name) for record in records] for name in names}
    return {**sortable(columns, helps, _MAIN), "left_out": max(0, count - MOST_ROWS)}


def sortable(
    columns: Mapping[str, Sequence[object]], helps: Mapping[str, str], main: Collection[str]
) -> dict[str, object]:
    """Return ``columns`` in the form for the script, without empty columns. The columns ``main`` are shown at first.

    A column with one value in all rows has that value only once.
    """
    return {
        "count": max(map(len, columns.values()), default=0),
        "left_out": 0,
        "columns": [
            _column(name, helps.get(name, ""), values, types, main)
            for name, values in columns.items()
            if (types := {*map(type, values)}) - {type(None)}
        ],
    }


def _column(
    name: str, help: str, values: Sequence[Any], types: Collection[type], main: Collection[str]
) -> dict[str, object]:
    constant = values.count(values[0]) == len(values)
    shown = rounded(values, _DIGITS) if float in types else values
    return {
        "name": name,
        "help": help,
        "main": name in main and not (constant and len(values) > 1),
        "numeric": _NUMBERS.issuperset(types),
        **({"same": shown[0]} if constant else {"values": shown}),
    }
