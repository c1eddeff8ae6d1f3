"""Gaps: cases and cells that were requested, but not measured or not compared."""

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from nccl_bench.analysis.cells import Cell
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.declined import declined_cells
from nccl_bench.analysis.description import recorded_user_arms
from nccl_bench.analysis.two_sides import SidesComparison
from nccl_bench.analysis.wording import case_name, from_to, joined, size_with_unit
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Skipped, Status

# With more ranges of sizes than this, a line counts the sizes and does not list them.
_MOST_RANGES = 3


def not_measured(run: Run) -> Iterator[str]:
    """Yield a line for each thing that was requested but not measured in ``run``."""
    yield from run.meta["left_out"]
    config = run.meta["config"]
    collectives = [name for name in config.get("collectives", ()) if name in COLLECTIVES]
    for user_arm in recorded_user_arms(run):
        reasons = {**(user_arm.get("lacking") or {}), **(user_arm.get("misfits") or {})}
        for collective in filter(reasons.get, collectives):
            yield f"{user_arm.get('arm')} does not support {collective}: {reasons[collective]}"
        possible = [collective for collective in collectives if collective not in reasons]
        if missing := _missing(possible, config.get("placements"), user_arm.get("supports", ())):
            yield f"{user_arm.get('arm')} does not support {missing}"
    yield from declined_cells(run)
    # A case that does not fit into memory is skipped in every launch.
    skipped = (line for line in run.others if isinstance(line, Skipped))
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
    run: Run, comparisons: Sequence[Comparison], baseline: str, candidates: Collection[str]
) -> bool:
    """Return True if, in any case and timing, ``baseline`` has times but a candidate was not compared.

    A candidate may decline a case. But it is incomplete if it is compared in no case at all.
    """
    samples = run.samples
    never_compared = {*candidates}.difference(each.candidate for each in comparisons)
    is_excused = samples.are_in((each.case, each.timing, each.candidate) for each in comparisons)
    is_excused |= samples.status.equals(Status.DECLINED) & ~samples.arm.equals(*never_compared)
    of_baseline = samples.arm.equals(baseline) & samples.status.equals(Status.OK) & samples.is_timed
    measured = samples.point[of_baseline]
    return any(
        not np.isin(measured, samples.point[is_excused & samples.arm.equals(candidate)]).all()
        for candidate in candidates
    )


def unmatched(sides: SidesComparison) -> Iterator[str]:
    """Yield lines about the cells of each side that have no counterpart on the other side."""
    # Both sides have these cells. But a run lacks the cell, or has no round with both the cell and the shared arm.
    of_after = set(sides.only_after)
    both = dict.fromkeys(cell for cell in sides.only_before if cell in of_after)
    beside = f" together with {sides.shared_arm}" if sides.shared_arm else ""
    compared = [(each.case, each.timing, each.candidate) for each in sides.comparisons]
    known = [*compared, *sides.only_before, *sides.only_after]
    for reason, cells in (
        ("before only", [cell for cell in sides.only_before if cell not in both]),
        ("after only", [cell for cell in sides.only_after if cell not in both]),
        (f"not in every run{beside}", list(both)),
    ):
        yield from (f"{place}: {reason}" for place in describe_cells(cells, known))


def describe_cells(cells: Iterable[Cell], known: Iterable[Cell]) -> Iterator[str]:
    """Yield texts that together name all ``cells``; cells that differ only in size, timing or arm share a text.

    ``known`` are all cells of the comparison. The words "all 28 sizes" mean all sizes of these cells.
    """
    known_sizes: dict[str, set[int]] = {}
    for case, _, _ in known:
        known_sizes.setdefault(case_name(case, ()), set()).add(case.size_bytes)
    sizes: dict[tuple[str, str, Timing, str], set[int]] = {}
    for case, timing, arm in cells:
        placements = filter(None, [case.placement_word])
        key = case_name(case, ()), case_name(case, list(placements)), timing, arm
        sizes.setdefault(key, set()).add(case.size_bytes)
    timings: dict[tuple[str, str, str], list[Timing]] = {}
    for (kind, name, timing, arm), of_cell in sizes.items():
        timings.setdefault((arm, name, _sizes_text(of_cell, known_sizes.get(kind, of_cell))), []).append(timing)
    arms: dict[tuple[tuple[Timing, ...], str, str], list[str]] = {}
    for (arm, name, where), of_arm in timings.items():
        in_order = tuple(timing for timing in Timing if timing in of_arm)
        arms.setdefault((in_order, name, where), []).append(arm)
    for (of_arms, name, where), names in arms.items():
        yield f"{joined(of_arms)} of {joined(names)}, {name}, {where}"


def _sizes_text(sizes: Collection[int], known: Collection[int]) -> str:
    """Return the ranges of ``sizes``; sizes share a range if no other size of ``known`` lies between them."""
    if len(sizes) == len({*sizes, *known}) > 1:
        return f"all {len(sizes)} sizes"
    ranges: list[list[int]] = []
    for size in sorted({*sizes, *known}):
        if size not in sizes:
            ranges.append([])
        else:
            ranges = ranges or [[]]
            ranges[-1].append(size)
    ranges = [each for each in ranges if each]
    if len(ranges) > _MOST_RANGES:
        return f"{len(sizes)} of the {len({*sizes, *known})} sizes from {_span(sorted(sizes))}"
    return joined([_span(each) for each in ranges])


def _span(sizes: Sequence[int]) -> str:
    return from_to(size_with_unit(sizes[0]), size_with_unit(sizes[-1]))


def _missing(collectives: Sequence[str], placements: Sequence[str] | None, supported: Sequence[str]) -> str:
    """Return what was requested but is not in ``supported``, a list of collectives with a placement; can be empty.

    Without ``placements``, a collective with any placement is enough.
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
