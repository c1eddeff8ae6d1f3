"""The headline of an analysis as text: above all tables, in the terminal and in Markdown."""

from collections.abc import Iterator

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.report.layout import Remarks


def headline_remarks(analysis: Analysis) -> Iterator[Remarks]:
    """Yield the verdicts of each pair of arms; then whether the results were right, and the command."""
    headline = analysis.headline
    for answer in headline.answers:
        yield Remarks(title=answer.title, items=answer.lines)
    items = [f"{name}: {text}" for name, text in (("Results", headline.results), ("Command", headline.command)) if text]
    if items:
        yield Remarks(title="", items=items)
