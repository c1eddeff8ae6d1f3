"""The table of all numbers: the columns of ``summary.csv``, or of the comparisons of two sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.summary import COLUMNS
from nccl_bench.report.json import comparison_record

# The columns that are shown at first. The reader can show the others.
_MAIN = frozenset(
    {
        *("compared", "collective", "dtype", "placement", "size_bytes", "arm", "timing", "status"),
        *("time_us", "before_us", "after_us", "baseline_us", "candidate_us"),
        *("ratio", "ratio_low", "ratio_high", "verdict", "noise_floor", "busbw_gb_s", "rounds"),
    }
)


# A browser shows so many rows quickly. The CSV of a longer run has all of them.
MOST_ROWS = 20_000


def numbers(analysis: Analysis) -> dict[str, object]:
    """Return the columns with a value in any row. A column with one value in all rows has that value only once."""
    columns: Mapping[str, list[object]]
    if analysis.run is not None:
        rows = analysis.rows[:MOST_ROWS]
        helps, count = COLUMNS, len(analysis.rows)
        columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    else:
        compared = analysis.comparisons[:MOST_ROWS]
        helps, count = {}, len(analysis.comparisons)
        records = [comparison_record(each, analysis.sides) for each in compared]
        names = dict.fromkeys(name for record in records for name in record)
        columns = {name: [record.get(name) for record in records] for name in names}
    return {
        "count": min(count, MOST_ROWS),
        "left_out": max(0, count - MOST_ROWS),
        "columns": [
            _column(name, helps.get(name, ""), values)
            for name, values in columns.items()
            if any(value is not None for value in values)
        ],
    }


def _column(name: str, help: str, values: Sequence[object]) -> dict[str, object]:
    constant = values.count(values[0]) == len(values)
    return {
        "name": name,
        "help": help,
        "main": name in _MAIN and not (constant and len(values) > 1),
        "numeric": all(value is None or isinstance(value, int | float) for value in values),
        **({"same": _rounded(values[0])} if constant else {"values": list(map(_rounded, values))}),
    }


def _rounded(value: object) -> object:
    return float(f"{value:.6g}") if isinstance(value, float) else value
