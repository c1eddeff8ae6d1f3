"""``nccl-bench compare``: two arms of one run, or two sides of runs."""

from __future__ import annotations

import shlex
from dataclasses import replace
from itertools import combinations, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nccl_bench.cli.destination import chosen_format
from nccl_bench.cli.gate import gate, parse_fail_on
from nccl_bench.cli.messages import exit_with
from nccl_bench.cli.options import (
    RUN_OPTIONS,
    Anonymous,
    ComparisonFile,
    ComparisonFormat,
    FailOnText,
    Full,
    Quiet,
    Width,
    detail_of,
)
from nccl_bench.cli.report import print_report
from nccl_bench.config.limits import DEFAULT_THRESHOLD, Limits, parse_threshold, read_limits
from nccl_bench.config.user_arms import AFTER, BEFORE
from nccl_bench.errors import UsageError
from nccl_bench.records.run import TOOL
from nccl_bench.report import COMPARISON_FORMATS

if TYPE_CHECKING:
    from nccl_bench.analysis.loading import LoadedRun


def compare(
    sides: Annotated[
        list[str],
        typer.Argument(
            metavar="BEFORE [AFTER]",
            help="One run, or two sides: the runs before a change, and the runs after the change. Separate the "
            "runs of a side by commas. A run is a directory, a summary.csv, or the output of nccl-tests.",
        ),
    ],
    arms: Annotated[
        str | None,
        typer.Option(
            help="Two arms, comma-separated. For one run: BASELINE,CANDIDATE. For two sides: an arm of BEFORE and an "
            f"arm of AFTER. Default for one run: {BEFORE},{AFTER} if it has both. Default for two sides: each arm that "
            "both sides have, before and after the change."
        ),
    ] = None,
    shared: Annotated[
        str | None,
        typer.Option(
            help="An arm that both sides have and that the change does not touch. All times are relative to this arm. "
            "Default: the baseline, if a side is one run and all runs have the same baseline; else no arm."
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            help=f"{RUN_OPTIONS['threshold'].help} Default: {DEFAULT_THRESHOLD:.0%}; for two arms of one run, the "
            "threshold recorded in the run."
        ),
    ] = None,
    limits: Annotated[
        Path | None, typer.Option(help=f"{RUN_OPTIONS['limits'].help} --threshold applies where no table matches.")
    ] = None,
    allow_mismatch: Annotated[
        bool, typer.Option("--allow-mismatch", help="Allow runs of different machines, versions or settings.")
    ] = False,
    fail_on: FailOnText = None,
    format: ComparisonFormat = None,
    to: ComparisonFile = None,
    width: Width = None,
    quiet: Quiet = False,
    full: Full = False,
    anonymous: Anonymous = False,
) -> None:
    """Compare runs, and show which cases are faster, slower, equivalent or inconclusive.

    Runs of different machines, GPU counts, versions of torch or NCCL_* variables are compared only with
    --allow-mismatch. Wrong results, hangs and crashes in any run set the exit code as in `run`. --fail-on adds two exit
    codes. 7: a candidate is slower. 8: a comparison is inconclusive or missing, or nothing could be judged.
    """
    from nccl_bench.analysis.compared_runs import analyse_arms, analyse_sides
    from nccl_bench.analysis.loading import load_run
    from nccl_bench.records.anonymity import Aliases

    gates = parse_fail_on(fail_on)
    chosen = chosen_format(format, to, COMPARISON_FORMATS)
    if len(sides) > 2:
        raise UsageError(
            f"{len(sides)} sides were given: give one run, or two sides; separate the runs of a side by commas"
        )
    given = _limits(threshold, limits)
    pair = _pair(arms)
    loaded = [[load_run(Path(part)) for part in side.split(",") if part] for side in sides]
    if not all(loaded):
        raise UsageError("a side is empty: give at least one run on each side")
    runs = [run for side in loaded for run in side]
    for first, second in combinations(runs, 2):
        if first.same_as(second):
            raise UsageError(
                f"{first.name} and {second.name} are the same run, and a run counts only once: give each run once"
            )
    limits_name = limits
    if anonymous:
        aliases, numbers = Aliases(), count(1)
        loaded = [[run.anonymous(aliases, f"run-{next(numbers)}") for run in side] for side in loaded]
        limits_name = limits and Path(aliases.path(str(limits)))
        runs = [run for side in loaded for run in side]
    names = [",".join(run.name for run in side) for side in loaded]
    options = {"--arms": arms, "--shared": shared, "--threshold": threshold, "--limits": limits_name}
    words = [part for name, value in options.items() if value is not None for part in (name, str(value))]
    mismatch = ["--allow-mismatch"] if allow_mismatch else []
    command = shlex.join([TOOL, "compare", *names, *words, *mismatch])
    if len(loaded) == 1:
        if pair is None and {BEFORE, AFTER} <= set(runs[0].comparable.arms):
            pair = (BEFORE, AFTER)
        if len(runs) > 1:
            raise UsageError("only one side was given, with several runs: give a second side, or one run and --arms")
        if pair is None:
            raise UsageError(_arms_of(runs[0]))
        if shared is not None:
            raise UsageError("--shared is for two sides, and only one side was given: leave --shared out")
        analysis = analyse_arms(runs[0], pair, given, command)
    else:
        analysis = analyse_sides(
            loaded[0], loaded[1], pair, shared, given or Limits(default=DEFAULT_THRESHOLD), allow_mismatch, command
        )
    print_report(analysis, chosen, width, to, detail_of(quiet, full))
    # The exit code of a failure wins over the exit code of a verdict.
    exit_with(analysis.exit_code or gate(gates, analysis))


def _limits(threshold: str | None, limits: Path | None) -> Limits | None:
    """Return the limits that the two options give. ``--threshold`` replaces only the default threshold of the file."""
    if threshold is None and limits is None:
        return None
    read = Limits(default=DEFAULT_THRESHOLD) if limits is None else read_limits(limits, DEFAULT_THRESHOLD)
    return read if threshold is None else replace(read, default=parse_threshold(threshold, "--threshold"))


def _arms_of(loaded: LoadedRun) -> str:
    """Return the arms of a run, and the command that compares two of them."""
    from nccl_bench.analysis.wording import joined

    arms = loaded.comparable.arms
    text = f"only one run was given: {loaded.name} has the {'arm' if len(arms) == 1 else 'arms'} {joined(arms)}"
    if len(arms) == 1:
        return f"{text}: give a second run"
    command = shlex.join(["nccl-bench", "compare", loaded.name, "--arms", ",".join(arms[:2])])
    return f"{text}: compare two of them, for example with `{command}`, or give a second run"


def _pair(arms: str | None) -> tuple[str, str] | None:
    if arms is None:
        return None
    names = [name.strip() for name in arms.split(",")]
    if len(names) != 2 or not all(names):
        raise UsageError(f"--arms is {arms!r}: give two arms, BASELINE,CANDIDATE")
    return names[0], names[1]
