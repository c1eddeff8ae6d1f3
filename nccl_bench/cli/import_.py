"""``nccl-bench import``: results of nccl-tests, recorded as a run."""

from pathlib import Path
from typing import Annotated

import typer

from nccl_bench.cli.messages import exit_with, print_message
from nccl_bench.cli.options import RUN_OPTIONS, out_option
from nccl_bench.config.options import Panel
from nccl_bench.config.run import resolve


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Output of nccl-tests, JSON (-J) or text. Several files become one run."),
    ],
    collective: Annotated[
        str | None,
        typer.Option(
            help="The collective, for the output of programs that do not name it.",
            rich_help_panel=Panel.OUTPUT,
        ),
    ] = None,
    name: Annotated[str, typer.Option(help=RUN_OPTIONS["name"].help, rich_help_panel=Panel.OUTPUT)] = "nccl-tests",
    out: Annotated[Path | None, out_option("results/<time>-<name>")] = None,
) -> None:
    """Record results of nccl-tests as a run, which can be reported and compared like any other run.

    The times of nccl-tests are averages over ranks. With the option `-a 3` of nccl-tests, the times are maxima, as in
    nccl-bench. Wrong results are also recorded; the exit code is then 4.
    """
    from nccl_bench.analysis.analysis import Analysis
    from nccl_bench.records.facts import command_line
    from nccl_bench.records.importers import merge, read
    from nccl_bench.records.run import Run
    from nccl_bench.records.store import RunStore
    from nccl_bench.report.csv import csv_report

    # This call only checks the name.
    resolve("cuda", {"name": name})
    imported = merge([read(file, collective) for file in files])
    meta = imported.meta(name)
    store = RunStore.create(
        out,
        name=name,
        command=command_line(),
        **{key: meta[key] for key in ("config", "launch", "left_out", "environment")},
    )
    store.append(*imported.lines)
    store.sync()
    store.update(**{key: meta[key] for key in ("started", "finished", "status", "worker")})
    analysis = Analysis.of(Run.load(store.path))
    store.write_summary(csv_report(analysis))
    for text in (f"recorded in {store.path}", *analysis.failures, *imported.left_out):
        print_message(text)
    exit_with(analysis.exit_code)
