"""The facts of the headline of a comparison of runs: what was compared, on which machine, with which commands."""

import shlex
from collections.abc import Iterator, Sequence

from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.comparison import Basis
from nccl_bench.analysis.headline import Fact
from nccl_bench.analysis.headline_facts import (
    Result,
    command_fact,
    command_facts,
    command_with,
    machine_text,
    minute,
    order_fact,
    results_of,
    results_text,
    sure_fact,
)
from nccl_bench.analysis.machine import NamedRuns
from nccl_bench.analysis.next_step import duration_text, moved_step, next_step, steady_step
from nccl_bench.analysis.rows import Rows
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.wording import joined
from nccl_bench.records.run import TOOL, Run
from nccl_bench.records.schema import Status

# The rows or the runs of a comparison, each with the name of its side.
_NamedRows = Sequence[tuple[str, Rows]]
_Runs = Sequence[tuple[str, Run]]


def comparison_facts(
    *,
    basis: Basis,
    reason: str,
    cautions: Sequence[str],
    bands: Sequence[Band],
    metas: NamedRuns,
    runs: _Runs,
    rows: _NamedRows,
    command: str,
    steady: str,
    two_speeds: bool,
    is_decided: bool = False,
) -> Iterator[Fact]:
    """Yield the facts of a comparison.

    ``reason`` is the basis in words. ``cautions`` say what can make the comparison unfair. ``rows`` are those of all
    compared cells. ``command`` is the command that made the comparison, or empty. ``steady`` says in a few words if
    the machine was steady, and ``two_speeds`` if the CPU has two speeds. With ``is_decided``, step times have answered
    the question, so that open bands need no more measurements.
    """
    if reason:
        yield from sure_fact(bands, basis)
        yield Fact(name="Basis", text=reason)
    yield from (Fact(name="Caution", text=caution) for caution in cautions)
    if rows:
        yield Fact(name="Results", text=_results(runs, rows))
    if metas:
        yield Fact(name="Machine", text=", ".join([machine_text(metas), *_started(metas)]))
    if steady:
        yield Fact(name="Steady", text=steady)
    yield from _next(() if is_decided else bands, basis, runs, two_speeds=two_speeds)
    # What was not asked, and what the reader has typed, stands last.
    yield from _order(runs)
    if command:
        yield command_fact("Command", command, "compare")
    yield from command_facts(metas)


def _results(runs: _Runs, rows: _NamedRows) -> str:
    """Return the results of the compared cells of each side, and of all its wrong cells: these are never compared."""
    run_of = dict(runs)
    names: dict[str, list[str]] = {}
    for name, of_run in rows:
        cells = [*results_of(of_run), *(_wrong_cells(run_of[name]) if name in run_of else ())]
        names.setdefault(results_text(cells), []).append(name)
    return "; ".join(
        f"{joined(of_text)}{' each' if len(of_text) > 1 else ''}: {text}" if any(of_text) else text
        for text, of_text in names.items()
    )


def _wrong_cells(run: Run) -> Iterator[Result]:
    wrong = run.samples.take(run.samples.status.equals(Status.WRONG))
    return ((line.arm, line.status, line.wrong is not None) for line in wrong.lines())


def _started(metas: NamedRuns) -> Iterator[str]:
    """Yield when each of several runs was started, with a date only if it is another one: 19:46 (after)."""
    last_date = ""
    for name, meta in metas if len(metas) > 1 else ():
        date, _, time = minute(str(meta.get("started") or "")).partition(" ")
        if date:
            yield f"{time if time and date == last_date else f'{date} {time}'.strip()} ({name})"
        last_date = date


def _order(runs: _Runs) -> Iterator[Fact]:
    """Yield how to verify the stream order of each side; sides with the same command share a fact."""
    names: dict[str, list[str]] = {}
    facts: dict[str, Fact] = {}
    for name, run in runs:
        if fact := order_fact(run):
            facts[fact.command] = fact
            names.setdefault(fact.command, []).append(name)
    for command, fact in facts.items():
        side = joined(names[command]) if len(facts) > 1 else ""
        yield command_fact("Order", command, side, fact.text.removesuffix(command))


def _next(bands: Sequence[Band], basis: Basis, runs: _Runs, *, two_speeds: bool) -> Iterator[Fact]:
    """Yield what settles open bands: the command of each side, with more launches, and the new comparison."""
    still_open = [band for band in bands if band.verdict is Verdict.INCONCLUSIVE]
    if not still_open:
        if bands and all(band.verdict for band in bands):
            yield Fact(name="Next", text="nothing is open")
        return
    meta = runs[0][1].meta if runs else {}
    text, options = next_step(bands, basis, meta)
    unsteady = two_speeds and bool(options) and basis is Basis.SHARED_ARM
    if unsteady:
        text = steady_step([name for name, _ in runs])
    text += duration_text(meta, options, runs=len(runs))
    repeated = [(name, *command_with(run, options)) for name, run in runs]
    has_commands = bool(repeated) and all(command for _, command, _ in repeated)
    yield Fact(name="Next", text=f"{text}:" if has_commands else f"{text}: {options}" if options else f"{text}.")
    if has_commands:
        for name, command, _ in repeated:
            yield command_fact("Next", command, name)
        folders = [folder for _, _, folder in repeated]
        if len(folders) == 2 and all(folders):
            command = shlex.join([TOOL, "compare", *folders])
            yield command_fact("Next", command, "compare")
    more = "" if unsteady else moved_step(bands)
    if more:
        yield Fact(name="Next", text=more)
