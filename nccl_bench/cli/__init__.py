"""The commands: parse, call, print, exit codes. The only place that prints and exits.

What a command needs beyond parsing is imported inside it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys

import typer

from nccl_bench.cli.report import report
from nccl_bench.cli.run import run
from nccl_bench.errors import InterruptedRunError, NcclBenchError

app = typer.Typer(
    name="nccl-bench",
    help="Benchmark a stream-free NCCL communicator against one with a stream of its own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(report)


def main() -> None:
    """The entry point: every expected error is one message and its exit code."""
    try:
        app()
    except NcclBenchError as error:
        end = error
    except KeyboardInterrupt:
        end = InterruptedRunError("interrupted before anything was measured")
    print(f"nccl-bench: {end}", file=sys.stderr)
    raise SystemExit(int(end.exit_code))
