"""``nccl-bench report``: the tables again, from what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nccl_bench.cli.gate import Format


def report(
    directory: Annotated[Path, typer.Argument(help="A directory that `nccl-bench run` or `import` made.")],
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON instead of tables.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the summary as CSV instead of tables.")] = False,
    format: Annotated[
        Format | None, typer.Option("--format", help="Any of these; markdown is for a pull request.")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Columns of the tables. Default: the terminal's.")] = None,
) -> None:
    """Print the tables of a run again, complete or not, from its records."""
    from nccl_bench.cli.session import Output, print_report
    from nccl_bench.records.run import Run

    print_report(Run.load(directory), Output(json=json, csv=csv, format=format, width=width))
