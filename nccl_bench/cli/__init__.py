"""The commands. Only this package prints and exits.

Each command imports heavy modules inside its function, so that ``--help`` answers immediately.
"""

import io
import sys
from errno import EDQUOT, ENOSPC
from typing import Annotated

import typer

from nccl_bench import __version__
from nccl_bench.cli.audit import audit
from nccl_bench.cli.command import Command, CommandGroup
from nccl_bench.cli.compare import compare
from nccl_bench.cli.doctor import doctor
from nccl_bench.cli.github import annotate_error
from nccl_bench.cli.guide import guide
from nccl_bench.cli.import_ import import_
from nccl_bench.cli.list import list_
from nccl_bench.cli.measuring_command import MeasuringCommand
from nccl_bench.cli.messages import exit_with, print_message
from nccl_bench.cli.report import report
from nccl_bench.cli.run import run
from nccl_bench.cli.trace import trace
from nccl_bench.cli.verify import verify
from nccl_bench.errors import ExitCode, InterruptedRunError, NcclBenchError

_PROGRAM = "nccl-bench"

app = typer.Typer(
    name=_PROGRAM,
    cls=CommandGroup,
    no_args_is_help=True,
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
    """Compare the speed of a stream-free NCCL communicator and a communicator with its own stream."""


app.command(cls=MeasuringCommand)(run)
app.command(cls=MeasuringCommand)(verify)
app.command(cls=Command, context_settings={"allow_interspersed_args": False})(audit)
app.command(cls=Command)(report)
app.command(cls=Command)(compare)
app.command("import", cls=Command)(import_)
app.command(cls=Command)(trace)
app.command("list", cls=Command)(list_)
app.command(cls=Command)(doctor)
app.command(cls=Command)(guide)


def main() -> None:
    """Run the command line. After an expected error, print one message and exit with the code of the error."""
    try:
        _call()
    except NcclBenchError as error:
        print_message(str(error))
        annotate_error(str(error))
        exit_with(error.exit_code)
    except BrokenPipeError:
        # The program that reads our output, such as `head`, has stopped reading.
        sys.stdout = io.StringIO()
        raise SystemExit(1) from None
    except OSError as error:
        # Without this line, the interpreter would write the rest of the output at exit, and fail with the same error.
        sys.stdout = io.StringIO()
        where = error.filename or "the output, or a temporary file, cannot be written"
        full = error.errno in (ENOSPC, EDQUOT)
        advice = "; free space there, or set TMPDIR to a directory on another disk" if full else ""
        print_message(f"{where}: {error.strerror or error}{advice}")
        exit_with(ExitCode.SETUP)


def _call() -> None:
    """Run the command and write its output. Then raise ``SystemExit``, or the error of the command."""
    try:
        # Help and the scripts of completion have this name, also under `python -m nccl_bench`.
        app(prog_name=_PROGRAM)
    except SystemExit as end:
        if end.code == ExitCode.INTERRUPTED:
            # After a Ctrl-C, Typer exits with this code and prints no message.
            raise InterruptedRunError("interrupted") from None
        print(end="", flush=True)
        raise
