"""The commands: parse, call, print, exit codes. The only place that prints and exits.

What a command needs beyond parsing is imported inside it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated, NoReturn

import typer

from nccl_bench import __version__
from nccl_bench.cli.compare import compare
from nccl_bench.cli.guide import guide
from nccl_bench.cli.import_ import import_
from nccl_bench.cli.list import list_
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


def _show_version(asked: bool) -> None:
    if asked:
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
    """The command line: every expected error is one message and its exit code."""
    try:
        _call()
    except NcclBenchError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader has what it wanted, as `head` has.
        sys.stdout = io.StringIO()
        raise SystemExit(1) from None
    except OSError as error:
        # What could not be written would be tried again, and complained about, on the way out of the interpreter.
        sys.stdout = io.StringIO()
        where = error.filename or "what is printed, or a temporary file, cannot be written"
        _fail(f"{where}: {error.strerror or error}", ExitCode.SETUP)


def _call() -> None:
    """Call the command; raises what went wrong and always ``SystemExit``, with everything printed."""
    try:
        app()
    except SystemExit as end:
        if end.code == ExitCode.INTERRUPTED:
            # Typer's end for a Ctrl-C, which says nothing.
            raise InterruptedRunError("interrupted") from None
        print(end="", flush=True)
        raise


def _fail(message: str, code: ExitCode) -> NoReturn:
    print(f"nccl-bench: {message}", file=sys.stderr)
    raise SystemExit(int(code))
