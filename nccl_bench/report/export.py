"""The summary for other programs: CSV and JSON. What was not measured is an empty cell, or a key that is not there."""

from __future__ import annotations

import json

from nccl_bench.analysis.summary import summarize, summary_rows
from nccl_bench.records.run import Run
from nccl_bench.records.schema import SCHEMA
from nccl_bench.records.summary_csv import NUMBERS


class CsvReport:
    """``summary.csv``: the columns of ``analysis.summary.COLUMNS``."""

    def render(self, run: Run) -> str:
        """A header line and one line per case, arm and timing."""
        return str(summarize(run).to_csv(index=False, float_format=NUMBERS, lineterminator="\n"))


class JsonReport:
    """The whole of ``run.json`` under ``run``, and the rows under ``summary``, as one object."""

    def render(self, run: Run) -> str:
        """Strict JSON, without NaN."""
        summary = [row.present() for row in summary_rows(run)]
        return json.dumps({"schema": SCHEMA, "run": run.meta, "summary": summary}, indent=2, allow_nan=False) + "\n"
