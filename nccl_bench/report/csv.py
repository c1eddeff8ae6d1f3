"""CSV for other programs; a value that was not measured is an empty field."""

from itertools import chain

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.summary import COLUMNS
from nccl_bench.report.formats import csv_text
from nccl_bench.report.json import comparison_record


def csv_report(analysis: Analysis) -> str:
    """Return ``summary.csv`` of a run; for compared runs, a header line and a line for each comparison."""
    if analysis.run is not None:
        return csv_text(COLUMNS, (part.columns() for part in analysis.rows.parts()))
    records = [comparison_record(each, analysis.sides) for each in analysis.comparisons]
    names = dict.fromkeys(chain(*records))
    return csv_text(names, [{name: [record.get(name) for record in records] for name in names}])
