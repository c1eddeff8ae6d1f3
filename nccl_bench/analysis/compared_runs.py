"""The analysis for the command ``compare``: two arms of one run, or two sides of one or more runs each."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.cell_warnings import cell_warnings, noise_warnings
from nccl_bench.analysis.cells import Cell
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.description import figures_notices
from nccl_bench.analysis.failures import failures, summary_failures, worst
from nccl_bench.analysis.gaps import candidate_incomplete, describe_cells, not_measured, unmatched
from nccl_bench.analysis.joined_launches import join_launches
from nccl_bench.analysis.libraries import mixed_libraries, notes_on_arms, notes_on_sides
from nccl_bench.analysis.loading import LoadedRun
from nccl_bench.analysis.machine import differences, over_ranks, times_over_ranks, versions
from nccl_bench.analysis.one_run import basis_of, compare_arms
from nccl_bench.analysis.registration import one_process
from nccl_bench.analysis.rows import Rows, rows_of
from nccl_bench.analysis.side_names import difference_text, likeness_text
from nccl_bench.analysis.steadiness import steadiness_of
from nccl_bench.analysis.step_run import step_time
from nccl_bench.analysis.step_sides import step_time_of_sides
from nccl_bench.analysis.two_sides import SidesComparison, compare_sides
from nccl_bench.analysis.warnings import carry_over_warnings, run_warnings
from nccl_bench.analysis.wording import counted, format_ratios
from nccl_bench.catalog.arms import fair_pair
from nccl_bench.config.limits import DEFAULT_THRESHOLD, Limits, recorded_limits
from nccl_bench.config.nearest import instead_of
from nccl_bench.errors import UsageError
from nccl_bench.records.collection import pausing_collection
from nccl_bench.records.lines import Lines
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Skipped, Status


def analyse_arms(loaded: LoadedRun, arms: tuple[str, str], limits: Limits | None, command: str = "") -> Analysis:
    """Compare the second of ``arms`` with the first, within one run. ``command`` is the command of this comparison.

    Without ``limits``, the thresholds recorded in the run apply. Raises ``UsageError`` if an arm is not in the
    run, or if the run is a summary, which has no rounds.
    """
    run, name = loaded.run, loaded.name
    if run is None:
        raise UsageError(f"{name} has only medians, but --arms compares round by round: give the run's directory")
    baseline, candidate = arms
    for arm in arms:
        _require(arm, [loaded])
    if baseline == candidate:
        raise UsageError(f"--arms names {baseline!r} twice: give two different arms")
    if limits is None:
        limits = recorded_limits(loaded.meta["config"], DEFAULT_THRESHOLD, f"the run {name}")
    cells = loaded.comparable.cells
    comparisons = compare_arms(loaded.comparable, limits, baseline=baseline, candidates=[candidate])
    points = {(each.case, each.timing) for each in comparisons}
    # For each cell that is not compared: the cell of the same case and timing with the other arm.
    missing = [
        (case, timing, baseline if arm == candidate else candidate)
        for case, timing, arm in cells
        if arm in arms and (case, timing) not in points
    ]
    no_common_round = [cell for cell in missing if cell in cells]
    no_time = [cell for cell in missing if cell not in cells]
    compared = _only(run, {(*point, arm) for point in points for arm in arms})
    rows_of_runs = (("", rows_of(compared)),)
    steadiness = steadiness_of(rows_of_runs, [("", run)])
    return Analysis(
        title=f"{name}: {candidate} against {baseline}, by times of the same round",
        notes=(
            *notes_on_arms(loaded.meta, [candidate], baseline),
            *figures_notices([loaded.meta["config"].get("device")]),
        ),
        run=None,
        metas=(("", loaded.meta),),
        runs=(("", join_launches(run)),),
        rows_of_runs=rows_of_runs,
        rows=Rows.of(),
        comparisons=comparisons,
        step=step_time(run, loaded.comparable, limits, baseline, [candidate]),
        basis=basis_of(comparisons),
        reason="times of the same round" if comparisons else "no round measured both arms",
        command=command,
        failures=tuple(_failures(loaded)),
        warnings=(
            *loaded.warnings,
            *cell_warnings(rows_of_runs),
            *noise_warnings(steadiness),
            *run_warnings(compared, arms, baseline),
            *carry_over_warnings(run, limits),
            *(_no_noise_floor(comparisons) if basis_of(comparisons) is Basis.ROUNDS else ()),
        ),
        steadiness=steadiness,
        not_compared=(
            *(f"{place}: no time" for place in describe_cells(no_time, cells)),
            *(
                f"{place}: no round in common with {baseline}"
                for place in describe_cells((cell for cell in no_common_round if cell[2] == candidate), cells)
            ),
        ),
        not_measured=tuple(_not_measured(loaded)),
        candidate_incomplete=candidate_incomplete(run, comparisons, baseline, [candidate]),
        exit_code=loaded.exit_code,
    )


@pausing_collection()
def analyse_sides(
    before: Sequence[LoadedRun],
    after: Sequence[LoadedRun],
    arms: tuple[str, str] | None,
    shared_arm: str | None,
    limits: Limits,
    allow_mismatch: bool,
    command: str = "",
) -> Analysis:
    """Compare the side ``after`` with the side ``before``. ``command`` is the command of this comparison.

    Raises ``UsageError`` if a run lacks a requested arm. Raises ``UsageError`` if the runs differ in the machine,
    the ranks or the settings, unless ``allow_mismatch`` is true.
    """
    _check_arms(before, after, arms, shared_arm)
    runs = [*zip(_labels("before", before), before, strict=True), *zip(_labels("after", after), after, strict=True)]
    metas = [(label, loaded.meta) for label, loaded in runs]
    differing = [*differences(metas), *mixed_libraries(metas[: len(before)]), *mixed_libraries(metas[len(before) :])]
    if differing and not allow_mismatch:
        lines = "\n".join(f"  {line}" for line in differing)
        raise UsageError(
            f"the runs were not measured under the same conditions:\n{lines}\ngive --allow-mismatch to compare anyway"
        )
    sides = compare_sides(
        [loaded.comparable for loaded in before],
        [loaded.comparable for loaded in after],
        limits,
        arms=arms,
        shared_arm=shared_arm,
    )
    if shared_arm is not None and sides.shared_arm is None:
        raise UsageError(f"--shared {shared_arm} cannot be used, because {sides.reason}")
    comparisons = sides.comparisons
    step, no_step_time = step_time_of_sides(before, after, sides, limits)
    reason = sides.reason if comparisons else "the two sides have no case, timing and arm in common"
    judged = any(each.verdict for each in comparisons)
    mismatches = [f"compared although the runs differ: {line}" for line in differing]
    names = [", ".join(loaded.name for loaded in side) for side in (before, after)]
    cells = [_compared_cells(sides, lambda each: each.baseline), _compared_cells(sides, lambda each: each.candidate)]
    compared = [
        (label, _only(loaded.run, of_side))
        for (label, loaded), of_side in zip(runs, [cells[0]] * len(before) + [cells[1]] * len(after), strict=True)
        if loaded.run is not None
    ]
    rows_of_runs = tuple((label, rows_of(run)) for label, run in compared)
    steadiness = steadiness_of(rows_of_runs, compared)

    libraries = [*notes_on_sides(metas[: len(before)], metas[len(before) :], comparisons, alone=not differing)]

    difference = difference_text(metas, differing, libraries)

    def about_run(run: Run) -> Iterator[str]:
        return run_warnings(run, run.samples.arm.distinct(), sides.shared_arm or "")

    return Analysis(
        title=f"{names[1]} against {names[0]}",
        notes=(
            *([] if judged else [f"No verdict: {reason}."]),
            *_shared_arm_note(sides),
            *([no_step_time] if no_step_time else []),
            *times_over_ranks(metas[: len(before)], metas[len(before) :]),
            *_fair_pair_note(comparisons),
            *libraries,
            *figures_notices([meta["config"].get("device") for _, meta in metas]),
        ),
        run=None,
        metas=tuple(metas),
        runs=tuple((label, join_launches(loaded.run)) for label, loaded in runs if loaded.run is not None),
        rows_of_runs=rows_of_runs,
        rows=Rows.of(),
        comparisons=comparisons,
        step=step,
        basis=sides.basis,
        reason="; ".join(filter(None, [reason, likeness_text(metas, difference)])),
        shared_arm=sides.shared_arm,
        difference=difference,
        cautions=(*mismatches, *over_ranks(metas), *one_process(metas), *versions(metas)),
        command=command,
        failures=_merged((label, _failures(loaded)) for label, loaded in runs),
        warnings=(
            *mismatches,
            *over_ranks(metas),
            *one_process(metas),
            *cell_warnings(rows_of_runs),
            *noise_warnings(steadiness),
            *_merged((label, loaded.warnings) for label, loaded in runs),
            *_merged((label, about_run(run)) for label, run in compared),
            *_merged((label, carry_over_warnings(loaded.run, limits)) for label, loaded in runs if loaded.run),
            *(_no_noise_floor(comparisons) if sides.basis is Basis.SHARED_ARM else ()),
        ),
        steadiness=steadiness,
        not_compared=tuple(unmatched(sides)),
        not_measured=_merged((label, _not_measured(loaded)) for label, loaded in runs),
        candidate_incomplete=bool(sides.only_before),
        exit_code=worst(loaded.exit_code for _, loaded in runs),
    )


def _check_arms(
    before: Sequence[LoadedRun], after: Sequence[LoadedRun], arms: tuple[str, str] | None, shared_arm: str | None
) -> None:
    if arms:
        _require(arms[0], before)
        _require(arms[1], after)
    if shared_arm is not None:
        _require(shared_arm, [*before, *after])
        if shared_arm in (arms or ()):
            raise UsageError(
                f"--shared is {shared_arm}, which is one of --arms {','.join(arms or ())}: give an arm that the change "
                "does not touch"
            )


def _require(arm: str, runs: Sequence[LoadedRun]) -> None:
    for loaded in runs:
        if arm not in loaded.comparable.arms:
            raise UsageError(f"{loaded.name} has no arm {arm!r}: {instead_of(arm, loaded.comparable.arms)}")


def _labels(side: str, runs: Sequence[LoadedRun]) -> list[str]:
    return [side] if len(runs) == 1 else [f"{side} {number}" for number, _ in enumerate(runs, start=1)]


def _compared_cells(sides: SidesComparison, arm_of: Callable[[Comparison], str]) -> set[Cell]:
    """Return the compared cells of one side, and the shared arm's cells of the same cases and timings."""
    return {
        (each.case, each.timing, arm)
        for each in sides.comparisons
        for arm in (arm_of(each), sides.shared_arm)
        if arm is not None
    }


def _only(run: Run, cells: Collection[Cell]) -> Run:
    """Return ``run`` with the samples of ``cells`` and no other records."""
    samples = run.samples.take(run.samples.are_in(cells))
    return replace(run, lines=Lines(samples, np.arange(len(samples)), {}))


def _merged(texts: Iterable[tuple[str, Iterable[str]]]) -> tuple[str, ...]:
    """Return each distinct text once, with the labels of its runs in front of the text."""
    labels: dict[str, list[str]] = {}
    for label, of_run in texts:
        for text in of_run:
            labels.setdefault(text, []).append(label)
    return tuple(f"{', '.join(of_text)}: {text}" for text, of_text in labels.items())


def _failures(loaded: LoadedRun) -> Iterator[str]:
    if loaded.run is not None:
        yield from failures(loaded.run)
    yield from summary_failures(loaded.left_out)


def _not_measured(loaded: LoadedRun) -> Iterator[str]:
    if loaded.run is not None:
        yield from not_measured(loaded.run)
    if Status.DECLINED in loaded.left_out:
        yield f"declined: {counted(loaded.left_out[Status.DECLINED], 'cell')}"
    if Skipped.kind in loaded.left_out:
        yield f"skipped: {counted(loaded.left_out[Skipped.kind], 'case')}"


def _shared_arm_note(sides: SidesComparison) -> Iterator[str]:
    if sides.shared_ratios:
        ratios = format_ratios(sides.shared_ratios)
        yield (
            f"Every ratio is relative to the arm {sides.shared_arm}. This arm itself gets no verdict; its ratios: "
            f"{ratios}."
        )


def _fair_pair_note(comparisons: Iterable[Comparison]) -> Iterator[str]:
    """Yield the arm that calls NCCL in the same way as another tool, if both were compared."""
    for tool, arm in dict.fromkeys(pair for each in comparisons if (pair := fair_pair(each.baseline, each.candidate))):
        yield f"{arm} is the arm to compare with {tool}: both make each call on one stream, without a fork or a join."


def _no_noise_floor(comparisons: Sequence[Comparison]) -> Iterator[str]:
    if comparisons and all(each.noise_floor is None for each in comparisons):
        yield (
            "No noise floor: no twin of a baseline was measured, so the communicator variance is unknown and every "
            "verdict is inconclusive. Measure again: a run of several arms measures a twin."
        )
