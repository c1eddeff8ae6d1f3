"""Gaps: cases and cells that were requested, but not measured or not compared."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from nccl_bench.analysis.comparable import Cell
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.declined import declined_cells
from nccl_bench.analysis.description import recorded_user_arms
from nccl_bench.analysis.two_sides import SidesComparison
from nccl_bench.analysis.wording import case_name
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.sizes import format_size
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples, Skipped, Status


def not_measured(run: Run) -> Iterator[str]:
    """Yield a line for each thing that was requested but not measured in ``run``."""
    yield from run.meta["left_out"]
    config = run.meta["config"]
    collectives = [name for name in config.get("collectives", ()) if name in COLLECTIVES]
    for user_arm in recorded_user_arms(run):
        if missing := _missing(collectives, config.get("placements"), user_arm.get("supports", ())):
            yield f"{user_arm.get('arm')} does not support {missing}"
        for collective, reason in (user_arm.get("misfits") or {}).items():
            if collective in collectives:
                yield f"{user_arm.get('arm')} cannot be called for {collective}: {reason}"
    yield from declined_cells(run)
    # A case that does not fit into memory is skipped in every launch.
    skipped = (line for line in run.lines if isinstance(line, Skipped))
    yield from dict.fromkeys(f"{line.case.label}: skipped, {line.reason}" for line in skipped)
    if run.missing:
        advice = ""
        if run.is_written:
            advice = ", so far: the run goes on"
        elif run.resume_command:
            advice = f": `{run.resume_command}` measures them"
        launches = f" in {run.launches} launches" if run.launches > 1 else ""
        yield f"{run.missing} of {(run.cases or 0) * run.launches} cases{launches}{advice}"


def candidate_incomplete(
    run: Run, comparisons: Iterable[Comparison], baseline: str, candidates: Collection[str]
) -> bool:
    """Return True if, in any case and timing, ``baseline`` has times but a candidate was not compared.

    A candidate may decline a case. But it is incomplete if it is compared in no case at all.
    """
    compared = {(each.case, each.timing, each.candidate) for each in comparisons}
    never_compared = {*candidates} - {candidate for _, _, candidate in compared}
    declined = {
        (line.case, line.timing, line.arm)
        for line in run.lines
        if isinstance(line, Samples) and line.status is Status.DECLINED and line.arm not in never_compared
    }
    measured = [
        (line.case, line.timing)
        for line in run.lines
        if isinstance(line, Samples) and line.arm == baseline and line.status is Status.OK and line.samples_us
    ]
    return any((*point, candidate) not in compared | declined for point in measured for candidate in candidates)


def unmatched(sides: SidesComparison) -> Iterator[str]:
    """Yield lines about the cells of each side that have no counterpart on the other side."""
    # Cells that both sides have, although one run of a side lacks the cell or has no common round with the shared arm.
    of_after = set(sides.only_after)
    both = dict.fromkeys(cell for cell in sides.only_before if cell in of_after)
    beside = f" together with {sides.shared_arm}" if sides.shared_arm else ""
    yield from describe_cells("missing after the change:", (cell for cell in sides.only_before if cell not in both))
    yield from describe_cells("missing before the change:", (cell for cell in sides.only_after if cell not in both))
    yield from describe_cells(f"not in every run{beside}:", both)


def describe_cells(text: str, cells: Iterable[Cell]) -> Iterator[str]:
    """Yield lines, each with ``text`` and the name of a cell; cells that differ only in size share a line."""
    groups: dict[tuple[str, Timing, str], list[int]] = {}
    for case, timing, arm in cells:
        placements = filter(None, [case.placement_word])
        groups.setdefault((arm, timing, case_name(case, list(placements))), []).append(case.size_bytes)
    for (arm, timing, name), sizes in groups.items():
        yield f"{text} {arm} {timing} {name} {', '.join(map(format_size, sorted(set(sizes))))}"


def _missing(collectives: Sequence[str], placements: Sequence[str] | None, supported: Sequence[str]) -> str:
    """Return what was requested and is not in ``supported``, which has collectives with a placement; empty if nothing.

    Without ``placements``, any placement of a collective would do.
    """
    if placements is None:
        have = {form.partition(" ")[0] for form in supported}
        return ", ".join(name for name in collectives if name not in have)
    requested = [f"{name} {placement}" for name in collectives for placement in _measured_placements(name, placements)]
    missing = [form for form in requested if form not in supported]
    lacking = {form.partition(" ")[0] for form in missing}
    other = [form for form in supported if form.partition(" ")[0] in lacking and form not in requested]
    return ", ".join(missing) + (f"; it supports {', '.join(other)}, see --placement" if other else "")


def _measured_placements(collective: str, placements: Sequence[str]) -> list[str]:
    """Return the ``placements`` that the collective supports, or its default if it supports none of these."""
    available = COLLECTIVES[collective].placements
    return [str(placement) for placement in available if placement in placements] or [str(available[0])]
