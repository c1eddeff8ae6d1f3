"""``nccl-bench report``: the report of a run, from its records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nccl_bench.cli.options import FormatOption, Width
from nccl_bench.config.options import listed
from nccl_bench.errors import UsageError
from nccl_bench.report import TABLE_FORMATS, Format

if TYPE_CHECKING:
    from nccl_bench.analysis.analysis import Analysis
    from nccl_bench.report import Report
    from nccl_bench.verify.record import VerificationRecord


def report(
    directory: Annotated[
        Path, typer.Argument(help="The directory of a record, made by `run`, `import` or `verify --out`.")
    ],
    format: FormatOption = Format.TERMINAL,
    width: Width = None,
) -> None:
    """Print the report of a recorded run or verification again, even if it did not complete."""
    from nccl_bench.analysis.analysis import Analysis
    from nccl_bench.records.run import VERIFICATION, Run
    from nccl_bench.verify.record import VerificationRecord

    if (directory / VERIFICATION).exists():
        if format not in TABLE_FORMATS:
            raise UsageError(
                f"--format is {format}, and {directory} is the record of a verification: allowed are "
                f"{listed(TABLE_FORMATS)}"
            )
        print_verification(VerificationRecord.load(directory), format, width)
        return
    print_report(Analysis.of(Run.load(directory)), format, width)


def print_report(analysis: Analysis, format: Format, width: int | None) -> None:
    """Print the report of ``analysis``. A ``width`` of ``None`` means the width of the terminal."""
    from nccl_bench.report.csv import csv_report
    from nccl_bench.report.html.analysis_page import html_report
    from nccl_bench.report.json import json_report
    from nccl_bench.report.markdown import markdown_report
    from nccl_bench.report.svg.report import svg_report
    from nccl_bench.report.terminal import TerminalReport

    reports: dict[Format, Report[Analysis]] = {
        Format.TERMINAL: TerminalReport.for_stream(sys.stdout, width).render,
        Format.MARKDOWN: markdown_report,
        Format.CSV: csv_report,
        Format.JSON: json_report,
        Format.HTML: html_report,
        Format.SVG: svg_report,
    }
    print(reports[format](analysis), end="", flush=True)


def print_verification(record: VerificationRecord, format: Format, width: int | None) -> None:
    """Print the table of a verification. A ``width`` of ``None`` means the width of the terminal."""
    from nccl_bench.report.verification import reports

    print(reports(sys.stdout, width, record.facts)[format](record.verification), end="", flush=True)
