"""``nccl-bench compare``: two arms of one run, or two sides of runs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nccl_bench.analysis.statistics import DEFAULT_THRESHOLD
from nccl_bench.cli.gate import gate, parse_fail_on
from nccl_bench.cli.messages import exit_with
from nccl_bench.cli.options import FailOnText, Format, Width, format_option
from nccl_bench.config.limits import Limits, parse_threshold, read_limits
from nccl_bench.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from nccl_bench.analysis.loaded import Loaded
    from nccl_bench.report.comparison import Comparative


def compare(
    sides: Annotated[
        list[str],
        typer.Argument(
            metavar="BEFORE [AFTER]",
            help="One run, or two sides of one or more runs each, comma-separated: directories, summary.csv files, or "
            "what nccl-tests wrote.",
        ),
    ],
    arms: Annotated[
        str | None,
        typer.Option(
            help="BASELINE,CANDIDATE: of one run; or of the side before and the side after. Default: every arm that "
            "both sides have, with itself."
        ),
    ] = None,
    shared: Annotated[
        str | None,
        typer.Option(
            help="An arm of both sides that the change does not touch: times are taken relative to it. Default, with "
            "one run on either side: the baseline that all have."
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            help="What difference matters, as 0.02 or 2%. Default: what a run itself was measured for where its --arms "
            f"are compared, else {DEFAULT_THRESHOLD:.0%}."
        ),
    ] = None,
    limits: Annotated[
        Path | None,
        typer.Option(help="A TOML file of thresholds by collective, timing and size; --threshold is for the rest."),
    ] = None,
    allow_mismatch: Annotated[
        bool, typer.Option("--allow-mismatch", help="Compare runs of different machines, versions or settings.")
    ] = False,
    fail_on: FailOnText = None,
    format: Annotated[Format, format_option(Format.TERMINAL, Format.MARKDOWN, Format.JSON)] = Format.TERMINAL,
    width: Width = None,
) -> None:
    """Compare runs, and say what is faster, slower, equivalent or open.

    Runs of different machines, GPU counts, versions or NCCL_* variables are not compared unless --allow-mismatch says
    so. Wrong results, hangs and crashes of any of them always set the exit code as in `run`; --fail-on adds 7,
    something is slower, and 8: something is inconclusive, or gone, or nothing could be judged.
    """
    from nccl_bench.analysis.loaded import load
    from nccl_bench.cli.sides import of_one_run, of_two_sides

    gates = parse_fail_on(fail_on)
    if len(sides) > 2:
        raise UsageError(f"{len(sides)} sides were given: give one run, or two sides, runs of a side comma-separated")
    given = _limits(threshold, limits)
    pair = _pair(arms)
    loaded = [[load(Path(part)) for part in side.split(",") if part] for side in sides]
    if not all(loaded):
        raise UsageError("a side is empty: give at least one run on each")
    runs = [one for side in loaded for one in side]
    for one, other in combinations(runs, 2):
        if one.same_as(other):
            raise UsageError(
                f"{one.source.name} and {other.source.name} are the same run, which would look surer than it is: give "
                "each once"
            )
    if len(loaded) == 1:
        if len(runs) > 1 or pair is None:
            raise UsageError("one side alone: give one run and --arms BASELINE,CANDIDATE, or a second side")
        if shared is not None:
            raise UsageError("--shared is for two sides: within one run every round is its own reference")
        found = of_one_run(runs[0], pair, given)
    else:
        found = of_two_sides(
            loaded[0], loaded[1], pair, shared, given or Limits(default=DEFAULT_THRESHOLD), allow_mismatch
        )
    _print(found, format, width or shutil.get_terminal_size((80, 24)).columns)
    # What went wrong weighs more than what is slower.
    code = _worst(runs) or gate(gates, found.told, judged=found.judged, lacking=found.lacking, reason=found.reason)
    exit_with(code)


def _worst(runs: Sequence[Loaded]) -> ExitCode:
    """What the runs have earned themselves, in the order of ``analysis.summary.failures``."""
    earned = {one.earned for one in runs}
    order: Sequence[ExitCode] = (ExitCode.WRONG_RESULT, ExitCode.HANG, ExitCode.SETUP)
    return next((code for code in order if code in earned), ExitCode.OK)


def _limits(threshold: str | None, limits: Path | None) -> Limits | None:
    """What the options say; the threshold given goes before the one of the file, which has its tables all the same."""
    if threshold is None and limits is None:
        return None
    read = Limits(default=DEFAULT_THRESHOLD) if limits is None else read_limits(limits, DEFAULT_THRESHOLD)
    return read if threshold is None else replace(read, default=parse_threshold(threshold, "--threshold"))


def _pair(arms: str | None) -> tuple[str, str] | None:
    if arms is None:
        return None
    names = [name.strip() for name in arms.split(",")]
    if len(names) != 2 or not all(names):
        raise UsageError(f"--arms is {arms!r}: give two, BASELINE,CANDIDATE")
    return names[0], names[1]


def _print(found: Comparative, form: Format, width: int) -> None:
    from nccl_bench.report.comparison import comparative_json, comparative_text
    from nccl_bench.report.markdown import comparative

    if form is Format.JSON:
        text = comparative_json(found)
    elif form is Format.MARKDOWN:
        text = comparative(found)
    else:
        text = comparative_text(found, width, sys.stdout.isatty())
    sys.stdout.write(text)
    sys.stdout.flush()
