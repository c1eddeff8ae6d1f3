"""CSV for other programs; a value that was not measured is an empty cell."""

from __future__ import annotations

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.summary import data_frame
from nccl_bench.report.formats import csv_text
from nccl_bench.report.json import comparison_record


class CsvReport:
    """A header line, and a line for each row of the summary or for each comparison of runs."""

    def render(self, analysis: Analysis) -> str:
        """Return ``summary.csv`` of a run, or the comparisons of runs."""
        import pandas as pd

        if analysis.run is not None:
            frame = data_frame(analysis.rows)
        else:
            frame = pd.DataFrame([comparison_record(each, analysis.sides) for each in analysis.comparisons])
        return csv_text(frame)
