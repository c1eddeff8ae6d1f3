"""``nccl-bench compare``: two arms of one run, or two sides of runs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nccl_bench.analysis.statistics import DEFAULT_THRESHOLD, Verdict
from nccl_bench.cli.gate import FailOn, Format, gate, parse_fail_on
from nccl_bench.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from nccl_bench.analysis.loaded import Loaded
    from nccl_bench.limits import Limits
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
            "one run a side: the baseline that both have."
        ),
    ] = None,
    threshold: Annotated[
        str | None, typer.Option(help=f"What difference matters, as 0.02 or 2%. Default: {DEFAULT_THRESHOLD:.0%}.")
    ] = None,
    limits: Annotated[
        Path | None, typer.Option(help="A TOML file of thresholds by collective, timing and size.")
    ] = None,
    allow_mismatch: Annotated[
        bool, typer.Option("--allow-mismatch", help="Compare runs of different machines, versions or settings.")
    ] = False,
    fail_on: Annotated[
        str | None, typer.Option(help=f"Of {', '.join(FailOn)}, comma-separated: what sets the exit code.")
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", help="How to print it; csv is not among what a comparison has.")
    ] = Format.TABLES,
    width: Annotated[int | None, typer.Option(help="Columns of the tables. Default: the terminal's.")] = None,
) -> None:
    """Compare runs, and say what is faster, slower, equivalent or open.

    Runs of different machines, GPU counts, versions or NCCL_* variables are not compared unless --allow-mismatch says
    so. Exit code 7: something is slower; 8: inconclusive; 4: wrong; where --fail-on asks for it.
    """
    from nccl_bench.analysis.loaded import load
    from nccl_bench.cli.session import Output
    from nccl_bench.limits import Limits, parse_threshold, read_limits

    output = Output(width=width)
    gates = parse_fail_on(fail_on)
    if format is Format.CSV:
        raise UsageError("--format is csv: a comparison is printed as tables, markdown or json")
    if len(sides) > 2:
        raise UsageError(f"{len(sides)} sides were given: give one run, or two sides, runs of a side comma-separated")
    default = DEFAULT_THRESHOLD if threshold is None else parse_threshold(threshold)
    matters = Limits(default=default) if limits is None else read_limits(limits, default)
    pair = _pair(arms)
    loaded = [[load(Path(part)) for part in side.split(",") if part] for side in sides]
    if not all(loaded):
        raise UsageError("a side is empty: give at least one run on each")
    if len(loaded) == 1:
        if len(loaded[0]) > 1 or pair is None:
            raise UsageError("one side alone: give one run and --arms BASELINE,CANDIDATE, or a second side")
        if shared is not None:
            raise UsageError("--shared is for two sides: within one run every round is its own reference")
        found = _within(loaded[0][0], pair, matters)
    else:
        found = _between(loaded[0], loaded[1], pair, shared, matters, allow_mismatch)
    _print(found, format, output.width or shutil.get_terminal_size((80, 24)).columns)
    wrong = [FailOn.WRONG.value] if any(one.wrong for side in loaded for one in side) else []
    # What cannot be told is as open as what was not.
    verdicts = [one.verdict or Verdict.INCONCLUSIVE for one in found.told] or [Verdict.INCONCLUSIVE]
    code = gate(gates, [*verdicts, *wrong])
    if code is not ExitCode.OK:
        raise SystemExit(int(code))


def _pair(arms: str | None) -> tuple[str, str] | None:
    if arms is None:
        return None
    names = [name.strip() for name in arms.split(",")]
    if len(names) != 2 or not all(names):
        raise UsageError(f"--arms is {arms!r}: give two, BASELINE,CANDIDATE")
    return names[0], names[1]


def _within(run: Loaded, pair: tuple[str, str], limits: Limits) -> Comparative:
    from nccl_bench.analysis.comparison import within
    from nccl_bench.report import verdicts
    from nccl_bench.report.comparison import Comparative, listed

    if run.run is None:
        raise UsageError(f"{run.source.name} has only medians left, and two arms of one run are compared by its rounds")
    for arm in pair:
        _require(arm, [run])
    if pair[0] == pair[1]:
        raise UsageError(f"--arms is {pair[0]!r} twice: give two different ones")
    compared = within(
        run.run,
        lambda case, timing: limits.threshold(case.collective, timing, case.size_bytes),
        baseline=pair[0],
        candidates=[pair[1]],
    )
    places = {(one.case, one.timing) for one in compared}
    rest = [cell for cell in run.source.cells if cell[2] in pair and cell[:2] not in places]
    return Comparative(
        title=f"{run.source.name}: {pair[1]} against {pair[0]}, by pairs of the same round",
        told=tuple(verdicts.of_pairs(compared)),
        more="More rounds",
        warnings=tuple(run.warnings),
        unmatched=tuple(listed("not in both:", rest)),
    )


def _between(
    before: Sequence[Loaded],
    after: Sequence[Loaded],
    pair: tuple[str, str] | None,
    shared: str | None,
    limits: Limits,
    allow_mismatch: bool,
) -> Comparative:
    from nccl_bench.analysis.between import Ground, between
    from nccl_bench.analysis.machine import differences, over_ranks
    from nccl_bench.report import verdicts
    from nccl_bench.report.comparison import Comparative, unmatched

    everything = [*before, *after]
    if pair:
        _require(pair[0], before)
        _require(pair[1], after)
    if shared is not None:
        _require(shared, everything)
        if shared in (pair or ()):
            raise UsageError(
                f"--shared {shared} is one of --arms {','.join(pair or ())}: give one the change does not touch"
            )
    runs = [(one.source.name, one.meta) for one in everything]
    differing = list(differences(runs))
    if differing and not allow_mismatch:
        lines = "\n".join(f"  {line}" for line in differing)
        raise UsageError(
            f"these runs differ in more than what is compared:\n{lines}\ngive --allow-mismatch to compare them all the "
            "same"
        )
    found = between(
        [one.source for one in before],
        [one.source for one in after],
        lambda case, timing: limits.threshold(case.collective, timing, case.size_bytes),
        arms=pair,
        shared=shared,
    )
    names = [" and ".join(one.source.name for one in side) for side in (before, after)]
    verdict = f"No verdict: {found.why}." if found.changes and found.changes[0].verdict is None else f"By {found.why}."
    return Comparative(
        title=f"{names[1]} against {names[0]}. {verdict}",
        told=tuple(verdicts.of_sides(found)),
        more="More runs a side" if found.ground is Ground.RUNS else "More rounds in each run, or several runs a side,",
        warnings=(
            *(f"compared all the same, although they differ: {line}" for line in differing),
            *over_ranks(runs),
            *(warning for one in everything for warning in one.warnings),
            *(() if found.changes else ("The two sides have no case, timing and arm in common.",)),
        ),
        unmatched=tuple(unmatched(found, names[0], names[1])),
    )


def _require(arm: str, runs: Sequence[Loaded]) -> None:
    for one in runs:
        if arm not in one.source.arms:
            raise UsageError(f"{one.source.name} has no arm {arm!r}: it has {', '.join(one.source.arms)}")


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
