"""The table of all numbers: the columns of ``summary.csv``, or of the comparisons of two sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

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


def numbers(analysis: Analysis) -> dict[str, object]:
    """Return the columns with a value in any row. A column with one value in all rows has that value only once."""
    records: Sequence[Mapping[str, object]]
    if analysis.run is not None:
        records, helps = [asdict(row) for row in analysis.rows], COLUMNS
    else:
        records, helps = [comparison_record(each, analysis.sides) for each in analysis.comparisons], {}
    names = dict.fromkeys(name for record in records for name, value in record.items() if value is not None)
    ordered = [name for name in COLUMNS if name in names] if analysis.run is not None else list(names)
    return {
        "count": len(records),
        "columns": [_column(name, helps.get(name, ""), [record.get(name) for record in records]) for name in ordered],
    }


def _column(name: str, help: str, values: list[object]) -> dict[str, object]:
    values = [float(f"{value:.6g}") if isinstance(value, float) else value for value in values]
    constant = len(set(values)) == 1
    return {
        "name": name,
        "help": help,
        "main": name in _MAIN and not (constant and len(values) > 1),
        "numeric": all(value is None or isinstance(value, int | float) for value in values),
        **({"same": values[0]} if constant else {"values": values}),
    }
