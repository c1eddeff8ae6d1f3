"""``nccl-bench trace``: the messages that a real program sent, from what torch and NCCL recorded of it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nccl_bench.cli.destination import refuse_unwritable, write_workload_text
from nccl_bench.cli.messages import print_message
from nccl_bench.cli.options import format_option, width_option
from nccl_bench.config.options import Panel
from nccl_bench.errors import UsageError
from nccl_bench.report import NARROWEST_TRAFFIC, TABLE_FORMATS, Format


def trace(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Recordings of one run: a trace of torch.profiler, a log of NCCL, a dump of torch's flight recorder, "
            "an execution trace, or lines of NCCL's inspector. Several files complete each other.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file for the messages of the lowest rank, as a workload. Default: no file.",
            rich_help_panel=Panel.OUTPUT,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="The number of steps of the model in the recording, which --out notes. Default: 1.",
            rich_help_panel=Panel.OUTPUT,
        ),
    ] = None,
    format: Annotated[Format, format_option(TABLE_FORMATS)] = Format.TERMINAL,
    width: Annotated[int | None, width_option(NARROWEST_TRAFFIC)] = None,
) -> None:
    """Print the messages that a real program sent: collective, size, how often, eagerly or in CUDA graphs.

    The table also names each fact that the files lack, and the recording that would have it.
    """
    from nccl_bench.config.workload import parse_number, workload_text
    from nccl_bench.report.traffic import reports
    from nccl_bench.traces.joining import join
    from nccl_bench.traces.readers import read_all
    from nccl_bench.traces.rows import workload_of

    if steps is not None and out is None:
        raise UsageError("--steps is for the workload that --out writes: give --out too, or leave --steps out")
    number_of_steps = parse_number("steps", 1 if steps is None else steps, "--steps")
    refuse_unwritable(out, "--out")
    traffic = join(read_all(files))
    print(reports(sys.stdout, width)[format](traffic), end="")
    if out is not None:
        workload, remarks = workload_of(traffic[0], number_of_steps)
        write_workload_text(workload_text(workload), out, "--out")
        for remark in remarks:
            print_message(remark)
        if steps is None:
            print_message(
                "the whole recording counts as one step: if the model made more, give their number with --steps"
            )
