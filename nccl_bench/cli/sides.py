"""What ``compare`` finds: two arms of one run by its rounds, or two sides of runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from nccl_bench.analysis.between import Between, between
from nccl_bench.analysis.change import Change, Ground
from nccl_bench.analysis.comparison import Compared, within
from nccl_bench.analysis.loaded import Loaded
from nccl_bench.analysis.machine import differences, over_ranks, versions
from nccl_bench.analysis.sources import Cell
from nccl_bench.analysis.statistics import DEFAULT_THRESHOLD
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits, recorded_limits
from nccl_bench.errors import UsageError
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples, Skipped, Status
from nccl_bench.report import notes, verdicts
from nccl_bench.report.comparison import Comparative, listed, unmatched
from nccl_bench.report.layout import counted, ratio
from nccl_bench.report.tables import CPU_NOTICE, DISCARDED


def of_one_run(one: Loaded, pair: tuple[str, str], limits: Limits | None) -> Comparative:
    """The second of ``pair`` against the first, by ``limits`` or those that the run was measured for."""
    if one.run is None:
        raise UsageError(f"{one.source.name} has only medians left, and two arms of one run are compared by its rounds")
    base, candidate = pair
    for arm in pair:
        _require(arm, [one])
    if base == candidate:
        raise UsageError(f"--arms is {base!r} twice: give two different ones")
    if limits is None:
        limits = recorded_limits(one.meta["config"], DEFAULT_THRESHOLD, f"the run {one.source.name}")
    compared = within(one.run, _threshold(limits), baseline=base, candidates=[candidate])
    told = tuple(verdicts.of_pairs(compared, one.source))
    found = {(each.case, each.timing) for each in compared}
    rest = [cell for cell in one.source.cells if cell[2] in pair and cell[:2] not in found]
    # By the arm that is missing: the other one is there, and no news.
    missing = [(*cell[:2], base if cell[2] == candidate else candidate) for cell in rest]
    both = [cell for cell in missing if cell in one.source.cells]
    looked_at = _only(one.run, {(*place, arm) for place in found for arm in pair})
    return Comparative(
        title=f"{one.source.name}: {candidate} against {base}, by pairs of the same round",
        ground="rounds of one run",
        reason="pairs of the same round" if told else "no round has both arms",
        more="More rounds",
        told=told,
        judged=could_be_judged(told),
        notes=tuple(_cpu([one])),
        failures=tuple(_failures(one)),
        warnings=(
            *one.warnings,
            *notes.cell_doubts([("", looked_at)]),
            *notes.run_doubts(looked_at, pair, base),
            *_without_floor(told),
        ),
        unmatched=(
            *listed("no time of", (cell for cell in missing if cell not in both)),
            *listed("no round in common with", both),
        ),
        lacking=lacks(one.run, compared, base, [candidate]),
        not_measured=tuple(_not_measured(one)),
    )


def of_two_sides(
    before: Sequence[Loaded],
    after: Sequence[Loaded],
    pair: tuple[str, str] | None,
    shared: str | None,
    limits: Limits,
    allow_mismatch: bool,
) -> Comparative:
    """``after`` against ``before``; raises ``UsageError`` for runs that differ in more, unless that is allowed."""
    if pair:
        _require(pair[0], before)
        _require(pair[1], after)
    if shared is not None:
        _require(shared, [*before, *after])
        if shared in (pair or ()):
            raise UsageError(
                f"--shared {shared} is one of --arms {','.join(pair or ())}: give one the change does not touch"
            )
    runs = [*zip(_names("before", before), before, strict=True), *zip(_names("after", after), after, strict=True)]
    metas = [(name, one.meta) for name, one in runs]
    differing = list(differences(metas))
    if differing and not allow_mismatch:
        lines = "\n".join(f"  {line}" for line in differing)
        raise UsageError(
            f"these runs differ in more than what is compared:\n{lines}\ngive --allow-mismatch to compare them all the "
            "same"
        )
    found = between(
        [one.source for one in before], [one.source for one in after], _threshold(limits), arms=pair, shared=shared
    )
    if shared is not None and found.shared is None:
        raise UsageError(f"--shared {shared}: that takes the rounds of both runs, or several runs a side")
    reason = found.why if found.changes else "the two sides have no case, timing and arm in common"
    told = tuple(verdicts.of_sides(found))
    paths = [", ".join(one.source.name for one in side) for side in (before, after)]
    of_before, of_after = _looked_at(found)
    looked_at = [
        (name, replace(one, run=_only(one.run, cells)))
        for (name, one), cells in zip(runs, [of_before] * len(before) + [of_after] * len(after), strict=True)
        if one.run is not None
    ]

    def doubts(one: Loaded) -> Iterable[str]:
        assert one.run is not None
        arms = {line.arm for line in one.run.lines if isinstance(line, Samples)}
        return notes.run_doubts(one.run, arms, found.shared or "")

    return Comparative(
        title=f"{paths[1]} against {paths[0]}. {'By' if any(one.verdict for one in told) else 'No verdict:'} {reason}.",
        ground=found.ground,
        reason=reason,
        shared=found.shared,
        witnesses="runs" if found.ground is Ground.RUNS else "rounds",
        judged=could_be_judged(told, by_twin=found.ground is not Ground.RUNS),
        more="More runs a side" if found.ground is Ground.RUNS else "More rounds in each run, or several runs a side,",
        told=told,
        notes=(*_itself(found), *_cpu([*before, *after])),
        failures=_of_each(runs, _failures),
        warnings=(
            *(f"compared all the same, although they differ: {line}" for line in differing),
            *over_ranks(metas),
            *versions(metas),
            *notes.cell_doubts([(name, one.run) for name, one in looked_at if one.run]),
            *_of_each(runs, lambda one: one.warnings),
            *_of_each(looked_at, doubts),
            *(_without_floor(told) if found.ground is Ground.SHARED_ARM else ()),
        ),
        unmatched=tuple(unmatched(found)),
        lacking=bool(found.only_before),
        not_measured=_of_each(runs, _not_measured),
    )


def could_be_judged(told: Iterable[verdicts.Told], *, by_twin: bool = True) -> bool:
    """Whether any data at all could have had a verdict: it takes an interval, and ``by_twin`` a noise floor."""
    return any(one.interval is not None and (one.floor is not None or not by_twin) for one in told)


def lacks(run: Run, compared: Iterable[Compared], baseline: str, candidates: Collection[str]) -> bool:
    """Whether any of ``candidates`` is without a comparison where ``baseline`` was measured."""
    found = {(one.case, one.timing, one.candidate) for one in compared}
    measured = [
        (line.case, line.timing)
        for line in run.lines
        if isinstance(line, Samples) and line.arm == baseline and line.status is Status.OK and line.samples_us
    ]
    return any((*place, name) not in found for place in measured for name in candidates)


def _looked_at(found: Between) -> tuple[set[Cell], set[Cell]]:
    """The cells of each side that are compared, and those of the shared arm beside them."""

    def of(arm: Callable[[Change], str]) -> set[Cell]:
        arms = [(one, name) for one in found.changes for name in (arm(one), found.shared) if name is not None]
        return {(one.case, one.timing, name) for one, name in arms}

    return of(lambda one: one.before_arm), of(lambda one: one.after_arm)


def _only(run: Run, cells: Collection[Cell]) -> Run:
    """``run`` as if it had measured nothing else."""
    lines = (line for line in run.lines if isinstance(line, Samples))
    return replace(run, lines=tuple(line for line in lines if (line.case, line.timing, line.arm) in cells))


def _threshold(limits: Limits) -> Callable[[Case, Timing], float]:
    return lambda case, timing: limits.threshold(case.collective, timing, case.size_bytes)


def _require(arm: str, runs: Sequence[Loaded]) -> None:
    for one in runs:
        if arm not in one.source.arms:
            raise UsageError(f"{one.source.name} has no arm {arm!r}: it has {', '.join(one.source.arms)}")


def _names(side: str, runs: Sequence[Loaded]) -> list[str]:
    return [side] if len(runs) == 1 else [f"{side} {number}" for number, _ in enumerate(runs, start=1)]


def _of_each(runs: Sequence[tuple[str, Loaded]], texts: Callable[[Loaded], Iterable[str]]) -> tuple[str, ...]:
    """What ``texts`` says of each run, with the names of all that it is the same of."""
    said: dict[str, list[str]] = {}
    for name, one in runs:
        for text in texts(one):
            said.setdefault(text, []).append(name)
    return tuple(f"{', '.join(names)}: {text}" for text, names in said.items())


def _failures(one: Loaded) -> Iterator[str]:
    if one.run is not None:
        yield from notes.failures(one.run)
    for status, rows in one.left_out.items():
        if status != Skipped.kind:
            what = DISCARDED if status == Status.OK else status.upper()
            yield f"{what}: {counted(rows, 'row')} of the summary without a time"


def _not_measured(one: Loaded) -> Iterator[str]:
    if one.run is not None:
        yield from notes.not_measured(one.run)
    if Skipped.kind in one.left_out:
        yield f"skipped: {counted(one.left_out[Skipped.kind], 'case')}"


def _cpu(runs: Sequence[Loaded]) -> Iterator[str]:
    if any(one.meta["config"].get("device") == "cpu" for one in runs):
        yield CPU_NOTICE


def _itself(found: Between) -> Iterator[str]:
    """What the shared arm did, which drops out of the rest."""
    if found.shared_ratios:
        low, high = ratio(min(found.shared_ratios)), ratio(max(found.shared_ratios))
        span = low if low == high else f"{low} to {high}"
        yield f"{found.shared} itself, which the rest is relative to: {span}, not judged."


def _without_floor(told: Sequence[verdicts.Told]) -> Iterator[str]:
    if told and all(one.floor is None for one in told):
        yield (
            "No noise floor: no twin of a baseline was measured, so what luck makes is not known, and nothing is "
            "decided. A run of several arms has one: measure again."
        )
