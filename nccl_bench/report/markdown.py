"""Markdown for a pull request: the headline, the verdicts, remarks about the verdicts, and folded tables of figures."""

from itertools import chain

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.report.formats import markdown_remarks, markdown_table
from nccl_bench.report.headline import headline_remarks
from nccl_bench.report.tables import measurement_tables
from nccl_bench.report.verdicts import analysis_remarks, heading, time_tables, verdict_tables


def markdown_report(analysis: Analysis) -> str:
    """Return GitHub's Markdown: headline, verdicts, failures and warnings, then the figures."""
    lines = [f"**nccl-bench**: {analysis.title}", ""]
    lines += chain.from_iterable(map(markdown_remarks, headline_remarks(analysis.headline)))
    lines += chain.from_iterable((note, "") for note in analysis.notes)
    if analysis.comparisons:
        lines += (heading(analysis), "")
    lines += chain.from_iterable(map(markdown_table, verdict_tables(analysis)))
    lines += chain.from_iterable(map(markdown_remarks, analysis_remarks(analysis)))
    figures = list(chain.from_iterable(map(markdown_table, chain(measurement_tables(analysis), time_tables(analysis)))))
    if figures:
        lines += ("<details><summary>Figures</summary>", "", *figures, "</details>", "")
    return "\n".join(lines)
