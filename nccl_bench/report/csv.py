"""CSV for other programs; a value that was not measured is an empty field."""

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.summary import data_frame
from nccl_bench.report.formats import csv_text
from nccl_bench.report.json import comparison_record


def csv_report(analysis: Analysis) -> str:
    """Return ``summary.csv`` of a run; for compared runs, a header line and a line for each comparison."""
    import pandas as pd

    if analysis.run is not None:
        frame = data_frame(analysis.rows)
    else:
        frame = pd.DataFrame([comparison_record(each, analysis.sides) for each in analysis.comparisons])
    return csv_text(frame)
