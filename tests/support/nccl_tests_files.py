"""Files of nccl-tests for the tests of its reader: excerpts of real ones, and tables and documents made from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nccl_bench.records.importers import Imported
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples

# Excerpts of real files. Each has two of the 14 sizes, and three of the times of single operations.
DATA = Path(__file__).parents[1] / "data" / "nccl-tests"
FILES = sorted(DATA.iterdir())
DOCUMENT = json.loads((DATA / "all_reduce-per-iteration.json").read_text(encoding="utf-8"))
TABLE = (DATA / "all_reduce.txt").read_text(encoding="utf-8")
ROWS = [line for line in TABLE.split("\n") if line.lstrip()[:1].isdigit()]
# The cells of a row that are about one placement: time, algbw, busbw, wrong elements.
RESULT = "    10.00    0.00    0.00       0"


def table_row(
    size: int, count: int, dtype: str = "float", redop: str = "none", root: int = -1, results: str = RESULT + RESULT
) -> str:
    """Return a row of a table; ``results`` are the cells of both placements."""
    return f"{size:12d}  {count:12d}  {dtype:>8}  {redop:>6}  {root:6d}{results}"


def document(**changes: Any) -> str:
    """Return ``DOCUMENT`` as text, with some of its fields changed."""
    return json.dumps(DOCUMENT | changes)


def samples_of(imported: Imported) -> list[Samples]:
    """Return the lines of ``imported`` that have samples."""
    return [line for line in imported.lines if isinstance(line, Samples)]


def run_of(imported: Imported) -> Run:
    """Return ``imported`` as a run, its ``run.json`` through JSON."""
    return Run(meta=json.loads(json.dumps(imported.meta())), lines=imported.lines)
