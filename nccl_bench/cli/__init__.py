"""The commands. Only this package prints and exits.

A command imports inside its function what it needs beyond its options, so that ``--help`` answers at once.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from nccl_bench import __version__
from nccl_bench.cli.compare import compare
from nccl_bench.cli.guide import guide
from nccl_bench.cli.import_ import import_
from nccl_bench.cli.list import list_
from nccl_bench.cli.messages import exit_with, print_message
from nccl_bench.cli.report import report
from nccl_bench.cli.run import run
from nccl_bench.cli.verify import verify
from nccl_bench.errors import ExitCode, InterruptedRunError, NcclBenchError

app = typer.Typer(
    name="nccl-bench",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"nccl-bench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Benchmark a stream-free NCCL communicator against one with a stream of its own."""


app.command()(run)
app.command()(verify)
app.command()(report)
app.command()(compare)
app.command("import")(import_)
app.command("list")(list_)
app.command()(guide)


def main() -> None:
    """Run the command line; an expected error is one message and its exit code."""
    try:
        _call()
    except NcclBenchError as error:
        print_message(str(error))
        exit_with(error.exit_code)
    except BrokenPipeError:
        # The reader needs no more output: `head` closes its end early.
        sys.stdout = io.StringIO()
        raise SystemExit(1) from None
    except OSError as error:
        # Without this, the interpreter would try to write the rest again at its end, and report the same error.
        sys.stdout = io.StringIO()
        where = error.filename or "the output, or a temporary file, cannot be written"
        print_message(f"{where}: {error.strerror or error}")
        exit_with(ExitCode.SETUP)


def _call() -> None:
    """Call the command, and raise its error or ``SystemExit``, after all output is written."""
    try:
        app()
    except SystemExit as end:
        if end.code == ExitCode.INTERRUPTED:
            # Typer ends this way after a Ctrl-C, without a message.
            raise InterruptedRunError("interrupted") from None
        print(end="", flush=True)
        raise
