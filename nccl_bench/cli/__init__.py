"""The commands: parse, call, print, exit codes. The only place that prints and exits.

What a command needs beyond parsing is imported inside it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, ParamSpec

import typer

from nccl_bench import __version__
from nccl_bench.cli.list import list_
from nccl_bench.cli.report import report
from nccl_bench.cli.run import run
from nccl_bench.cli.verify import verify
from nccl_bench.errors import InterruptedRunError, NcclBenchError

_P = ParamSpec("_P")

app = typer.Typer(
    name="nccl-bench",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _interruptible(command: Callable[_P, None]) -> Callable[_P, None]:
    """``command`` with a Ctrl-C as an error of ours: Typer would end without a word."""

    @wraps(command)
    def interruptible(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt as error:
            raise InterruptedRunError("interrupted") from error

    return interruptible


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


app.command()(_interruptible(run))
app.command()(_interruptible(verify))
app.command()(_interruptible(report))
app.command("list")(_interruptible(list_))


def main() -> None:
    """The entry point: every expected error is one message and its exit code."""
    try:
        app()
    except NcclBenchError as error:
        print(f"nccl-bench: {error}", file=sys.stderr)
        raise SystemExit(int(error.exit_code)) from None
