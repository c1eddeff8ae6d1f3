"""The headline of an analysis as text: above all tables, in the terminal and in Markdown."""

from collections.abc import Iterator
from itertools import groupby

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.report.layout import Remarks


def headline_remarks(analysis: Analysis) -> Iterator[Remarks]:
    """Yield the problems, then the verdicts of each pair of arms, then the facts."""
    headline = analysis.headline
    if headline.problems:
        yield Remarks(title="Failures", items=headline.problems, style="bold red")
    for about, lines in groupby(headline.lines, key=lambda line: line.about):
        items = [" ".join(filter(None, (line.label, line.timing, line.text))) for line in lines]
        yield Remarks(title=about or headline.title, items=items)
    if headline.facts:
        yield Remarks(title="", items=[f"{fact.name}: {fact.text}" for fact in headline.facts])
