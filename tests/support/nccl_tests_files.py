"""Files of nccl-tests for the tests of its reader: excerpts of real ones, and tables and documents made from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nccl_bench.records.importers import Imported
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples

# Excerpts of real files. Each has two of the 14 sizes, which its settings name, and three of the times of single
# operations.
DATA = Path(__file__).parents[1] / "data" / "nccl-tests"
FILES = sorted(DATA.iterdir())
DOCUMENT = json.loads((DATA / "all_reduce-per-iteration.json").read_text(encoding="utf-8"))
TABLE = (DATA / "all_reduce.txt").read_text(encoding="utf-8")
ROWS = [line for line in TABLE.split("\n") if line.lstrip()[:1].isdigit()]
# The sizes in the settings of TABLE.
SIZES = "minBytes 8 maxBytes 8388608 step: 1048576(factor)"


def table_row(
    size: int,
    count: int,
    dtype: str = "float",
    redop: str = "none",
    root: int = -1,
    *,
    times_us: tuple[float, float] = (10.0, 10.0),
    wrong: tuple[str, str] = ("0", "0"),
    bus_factor: float = 1.5,
) -> str:
    """Return a row of a table; ``times_us`` and ``wrong`` are those of both placements."""
    results = ""
    for time_us, number in zip(times_us, wrong, strict=True):
        algbw = size / time_us / 1e3 if time_us else 0.0
        results += f"  {time_us:7.2f}  {algbw:6.2f}  {algbw * bus_factor:6.2f}  {number:>6}"
    return f"{size:12d}  {count:12d}  {dtype:>8}  {redop:>6}  {root:6d}{results}"


def settings_of(rows: list[str]) -> str:
    """Return the sizes in the settings of a table with ``rows``, which have at most two sizes."""
    sizes = sorted({int(row.split()[0]) for row in rows})
    return f"minBytes {sizes[0]} maxBytes {sizes[-1]} step: {max(2, sizes[-1] // max(1, sizes[0]))}(factor)"


def document(**changes: Any) -> str:
    """Return ``DOCUMENT`` as text, with some of its fields changed."""
    return json.dumps(DOCUMENT | changes)


def samples_of(imported: Imported) -> list[Samples]:
    """Return the lines of ``imported`` that have samples."""
    return [line for line in imported.lines if isinstance(line, Samples)]


def run_of(imported: Imported) -> Run:
    """Return ``imported`` as a run, its ``run.json`` through JSON."""
    return Run(meta=json.loads(json.dumps(imported.meta())), lines=imported.lines)
