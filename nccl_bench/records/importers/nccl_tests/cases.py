"""The lines of a run from the content of one table or JSON document of nccl-tests."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args

from nccl_bench.catalog.bounds import AtLeastOne, Bounds
from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import Placement, RedOp
from nccl_bench.catalog.dtypes import DTYPE_ALIASES, DTYPES, DType
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.sizes import unique
from nccl_bench.errors import RecordError
from nccl_bench.records.decoding import shown
from nccl_bench.records.importers.imported import Imported
from nccl_bench.records.importers.nccl_tests.abridging import abridged
from nccl_bench.records.importers.nccl_tests.bandwidths import damaged_row, doubted_ranks
from nccl_bench.records.importers.nccl_tests.output import Output, PlacementResult, ResultRow
from nccl_bench.records.importers.nccl_tests.sizes import missing_roots, missing_sizes, unexpected_rows
from nccl_bench.records.schema import PerIteration, Samples, Skipped, Status

ARM = "nccl-tests"
# The numbers of ranks that a record can have.
_RANKS: Bounds = get_args(AtLeastOne)[1]


def imported(output: Output, name: str) -> Imported:
    """Return ``output``, which was read from the file ``name``, as the lines of a run.

    A row is left out and named if its count, root or algbw contradicts its size and time. If nccl-tests measured a case
    several times, each result becomes a round.
    """
    if not _RANKS.contain(output.world_size):
        raise RecordError(f"it lists {output.world_size} ranks: {_RANKS.text}")
    if not output.rows:
        raise RecordError("; ".join(("it has no complete row of results", *output.left_out)))
    has_cpu_time = output.timing is Timing.ENQUEUE
    damaged = {row.where: reason for row in output.rows if (reason := _contradiction(output, row, has_cpu_time))}
    rows = [row for row in output.rows if row.where not in damaged]
    reasons = abridged(list(damaged.values()), "rows")
    if not rows:
        raise RecordError(f"no row of results fits {output.collective.name} on {output.world_size} ranks: {reasons[0]}")
    kept = replace(output, rows=tuple(rows))
    doubt = doubted_ranks(kept, rows, has_cpu_time=has_cpu_time)
    left_out = [*output.left_out, *reasons, *missing_sizes(kept), *missing_roots(kept), *([doubt] if doubt else [])]
    known = [row for row in rows if _is_known(output, row)]
    unknown = unique(
        f"{shown(f'{row.dtype} {row.redop}')}, which nccl-bench does not have"
        for row in rows
        if not _is_known(output, row)
    )
    notes = [*unexpected_rows(kept), *unknown]
    lines = list(_lines(output, known))
    if not lines:
        raise RecordError(f"it has no result that nccl-bench can read: {'; '.join(unknown) or _no_placement(output)}")
    return Imported(
        arm=ARM,
        source=(name,),
        world_size=output.world_size,
        processes=output.processes,
        over_ranks=output.over_ranks,
        started=output.started,
        finished=output.finished,
        library=output.library,
        hostnames=unique(output.hostnames),
        gpus=unique(output.gpus),
        variables=output.variables,
        whole=not left_out,
        left_out=tuple(f"{name}: {text}" for text in (*left_out, *output.notes, *notes)),
        lines=tuple(lines),
    )


def _no_placement(output: Output) -> str:
    placements = ", ".join(unique(place for row in output.rows for place in row.results)) or "nothing"
    return f"it measured {output.collective.name} {placements}"


def _dtype(row: ResultRow) -> DType | None:
    return DTYPES.get(DTYPE_ALIASES.get(row.dtype, row.dtype))


def _is_known(output: Output, row: ResultRow) -> bool:
    """Return True if nccl-bench has the data type and the reduction of ``row``."""
    return _dtype(row) is not None and (not output.collective.reduces or row.redop in list(RedOp))


def _contradiction(output: Output, row: ResultRow, has_cpu_time: bool) -> str | None:
    """Return what is wrong with ``row`` if its cells contradict each other, else ``None``."""
    dtype = _dtype(row)
    collective = output.collective
    if dtype is not None and collective.size_bytes(row.count, dtype.itemsize, output.world_size) != row.size_bytes:
        return (
            f"the row on {row.where}: it has {row.size_bytes} B and a count of {row.count} {dtype.name}, which does "
            f"not fit {collective.name} on {output.world_size} ranks"
        )
    if collective.rooted and not 0 <= row.root < output.world_size:
        return f"the row on {row.where}: it has the root {row.root}, and the ranks are 0 to {output.world_size - 1}"
    return damaged_row(row, has_cpu_time=has_cpu_time)


def _lines(output: Output, rows: Sequence[ResultRow]) -> Iterator[Samples | Skipped]:
    measured: dict[Case, list[PlacementResult]] = {}
    for row in rows:
        for case in _cases(output, row):
            results = measured.setdefault(case, [])
            if case.placement in row.results:
                results.append(row.results[case.placement])
    for case, results in measured.items():
        if results:
            yield _samples(output, case, results)
        elif not case.size_bytes:
            yield Skipped(case=case, reason="nccl-tests rounds the blocks of its message down to 0 B")


def _cases(output: Output, row: ResultRow) -> list[Case]:
    """Return a case for each placement of ``row``; nccl-bench must have its data type and its reduction."""
    collective = output.collective
    dtype = _dtype(row)
    assert dtype is not None
    return [
        Case(
            scenario=Scenario.ISOLATED,
            collective=collective.name,
            dtype=dtype.name,
            # nccl-tests prints a reduction even for a collective that does not reduce.
            redop=RedOp(row.redop) if collective.reduces else None,
            placement=placement,
            root=row.root if collective.rooted else None,
            size_bytes=row.size_bytes,
            count=row.count,
        )
        for placement in collective.placements
        if placement is not Placement.RETURNED  # nccl-tests is written in C++, and gives every call its output
    ]


def _samples(output: Output, case: Case, results: Sequence[PlacementResult]) -> Samples:
    counts = [result.wrong for result in results]
    wrong = None if None in counts else sum(filter(None, counts))
    return Samples(
        case=case,
        arm=ARM,
        timing=output.timing,
        status=Status.WRONG if wrong else Status.OK,
        world_size=output.world_size,
        ops_per_batch=results[0].operations,
        rounds=tuple(range(len(results))),
        samples_us=tuple(result.time_us.value for result in results),
        fastest_rank_us=(),
        slowest_rank=(),
        discarded=0,
        wrong=wrong,
        tolerance_ulp=None,
        arena=None,
        per_iteration=_over_rounds([result.per_iteration for result in results if result.per_iteration]),
    )


def _over_rounds(rounds: Sequence[PerIteration]) -> PerIteration | None:
    """Return the times of several rounds together. Percentiles over all rounds are unknown, so they are ``None``."""
    if len(rounds) < 2:
        return rounds[0] if rounds else None
    return PerIteration(
        operations=sum(times.operations for times in rounds),
        min_us=min(times.min_us for times in rounds),
        max_us=max(times.max_us for times in rounds),
    )
