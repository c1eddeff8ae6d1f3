"""``nccl-bench report``: the report of a run, from its records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nccl_bench.cli.options import Format, Width, format_option

if TYPE_CHECKING:
    from nccl_bench.records.run import Run
    from nccl_bench.report import Report


def report(
    directory: Annotated[Path, typer.Argument(help="The directory of a run, made by `nccl-bench run` or `import`.")],
    format: Annotated[Format, format_option(*Format)] = Format.TERMINAL,
    width: Width = None,
) -> None:
    """Print the report of a run again, complete or not, from its records."""
    from nccl_bench.records.run import Run

    print_report(Run.load(directory), format, width)


def print_report(run: Run, format: Format, width: int | None) -> None:
    """Print the report of ``run``; ``width`` is that of the terminal where it is ``None``."""
    from nccl_bench.report.export import CsvReport, JsonReport
    from nccl_bench.report.markdown import MarkdownReport
    from nccl_bench.report.terminal import TerminalReport

    reports: dict[Format, Report] = {
        Format.TERMINAL: TerminalReport.for_stream(sys.stdout, width),
        Format.MARKDOWN: MarkdownReport(),
        Format.CSV: CsvReport(),
        Format.JSON: JsonReport(),
    }
    sys.stdout.write(reports[format].render(run))
    sys.stdout.flush()
