"""``nccl-bench report``: the report of a run, from its records."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nccl_bench.cli.destination import chosen_format, stream_of, write_report
from nccl_bench.cli.github import show_on_github
from nccl_bench.cli.options import Anonymous, FormatOrEnding, Full, Quiet, ToFile, Width, detail_of
from nccl_bench.config.options import listed
from nccl_bench.errors import UsageError
from nccl_bench.records.collection import pausing_collection
from nccl_bench.report import VERIFICATION_FORMATS, Detail, Format

if TYPE_CHECKING:
    from nccl_bench.analysis.analysis import Analysis
    from nccl_bench.report import Report
    from nccl_bench.verify.record import VerificationRecord

# The module and the function of each report that depends on nothing but the analysis.
_REPORTS: Mapping[Format, tuple[str, str]] = {
    Format.MARKDOWN: ("nccl_bench.report.markdown", "markdown_report"),
    Format.CSV: ("nccl_bench.report.csv", "csv_report"),
    Format.JSON: ("nccl_bench.report.json", "json_report"),
    Format.HTML: ("nccl_bench.report.html.analysis_page", "html_report"),
    Format.SVG: ("nccl_bench.report.svg.report", "svg_report"),
    Format.BENCHER: ("nccl_bench.report.bencher", "bencher_report"),
    Format.PERFETTO: ("nccl_bench.report.perfetto", "perfetto_report"),
}


def report(
    directory: Annotated[
        Path, typer.Argument(help="The directory of a record, made by `run`, `import` or `verify --out`.")
    ],
    format: FormatOrEnding = None,
    to: ToFile = None,
    width: Width = None,
    quiet: Quiet = False,
    full: Full = False,
    anonymous: Anonymous = False,
) -> None:
    """Print the report of a recorded run or verification again, even if it did not complete.

    For a web page with charts: nccl-bench report results/run --to page.html
    """
    from nccl_bench.records.anonymity import Aliases
    from nccl_bench.records.run import VERIFICATION, Run

    chosen = chosen_format(format, to)
    if os.path.lexists(directory / VERIFICATION):
        if chosen not in VERIFICATION_FORMATS:
            raise UsageError(
                f"the format is {chosen}, and {directory} is the record of a verification: allowed are "
                f"{listed(VERIFICATION_FORMATS)}"
            )
        from nccl_bench.verify.record import VerificationRecord

        record = VerificationRecord.load(directory)
        record = record.anonymous(Aliases()) if anonymous else record
        print_verification(record, chosen, width, to, detail_of(quiet, full))
        return
    from nccl_bench.analysis.analysis import Analysis

    with pausing_collection():
        run = Run.load(directory)
        run = Aliases().run(run) if anonymous else run
        print_report(Analysis.of(run), chosen, width, to, detail_of(quiet, full))


@pausing_collection()
def print_report(
    analysis: Analysis, format: Format, width: int | None, file: Path | None = None, detail: Detail = Detail.USUAL
) -> None:
    """Print the report of ``analysis``, or write it to ``file``.

    A ``width`` of ``None`` means the width of the terminal.
    """
    if format is Format.TERMINAL:
        from nccl_bench.report.terminal import TerminalReport

        text = replace(TerminalReport.for_stream(stream_of(file), width), detail=detail).render(analysis)
    else:
        text = _report_of(format)(analysis)
    write_report(text, file)
    show_on_github(lambda: analysis.headline, analysis.warnings, lambda: _report_of(Format.MARKDOWN)(analysis))


def _report_of(format: Format) -> Report[Analysis]:
    """Return the function of a format. Import only the module of this format, because some modules load slowly."""
    module, function = _REPORTS[format]
    report: Report[Analysis] = getattr(import_module(module), function)
    return report


def print_verification(
    record: VerificationRecord,
    format: Format,
    width: int | None,
    file: Path | None = None,
    detail: Detail = Detail.USUAL,
) -> None:
    """Print the table of a verification, or write it to ``file``.

    A ``width`` of ``None`` means the width of the terminal.
    """
    from nccl_bench.report.html.verification_page import verification_html
    from nccl_bench.report.verification import markdown_verification, reports
    from nccl_bench.verify.headline import verification_headline

    by_format = {**reports(stream_of(file), width, detail), Format.HTML: verification_html}
    verification = record.verification
    write_report(by_format[format](verification), file)
    show_on_github(
        lambda: verification_headline(verification), verification.notes, lambda: markdown_verification(verification)
    )
