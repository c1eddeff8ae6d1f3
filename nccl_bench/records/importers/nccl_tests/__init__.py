"""What nccl-tests wrote, as the lines of a run and what ``run.json`` says about them.

https://github.com/NVIDIA/nccl-tests; its JSON is read by ``document``, its printed table by ``table``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Collective, RedOp
from nccl_bench.catalog.dtypes import DTYPE_ALIASES, DTYPES
from nccl_bench.catalog.nccl_version import version_text
from nccl_bench.errors import RecordError
from nccl_bench.records.importers.nccl_tests.document import read_document
from nccl_bench.records.importers.nccl_tests.imported import ARM, Imported, merged, unique
from nccl_bench.records.importers.nccl_tests.output import Half, Output, OverRanks, ResultRow
from nccl_bench.records.importers.nccl_tests.table import read_table
from nccl_bench.records.run import FILES
from nccl_bench.records.schema import PerIteration, Samples, Skipped, Status, parse_json, shown

__all__ = ["ARM", "Imported", "OverRanks", "merged", "read"]

_RENAMED = {"all_to_all": "alltoall", "send_recv": "sendrecv"}
# By the names of nccl-tests' programs.
_COLLECTIVES = {_RENAMED.get(name, name): row for name, row in COLLECTIVES.items()}
# More than any communicator has.
_MOST_RANKS = 2**31


def read(path: Path) -> Imported:
    """The file ``path``, JSON or table by its content.

    Times are nccl-tests' own: the average over ranks unless its ``-a`` said otherwise. A size that its rounding left
    empty is skipped, a placement that is not in our table (its alltoall in place, say) absent; a case that it measured
    several times has as many rounds. Raises ``RecordError`` with the file, what was got and what is expected.
    """
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise RecordError(f"{path} cannot be read: {reason}") from error
    try:
        output = read_document(parse_json(text)) if text.lstrip().startswith("{") else read_table(text)
        lines, left_out = _lines(output)
    except RecordError as error:
        hint = "; to report or compare a run, give its directory" if path.name in FILES else ""
        raise RecordError(f"{path}: {error}{hint}") from error
    return Imported(
        source=(path.name,),
        world_size=output.world_size,
        over_ranks=output.over_ranks,
        started=output.started,
        finished=output.finished,
        nccl_version=None if output.nccl_version is None else version_text(output.nccl_version),
        hostnames=unique(output.hostnames),
        gpus=unique(output.gpus),
        variables=output.variables,
        whole=not output.left_out,
        left_out=tuple(f"{path.name}: {text}" for text in (*output.left_out, *left_out)),
        lines=tuple(lines),
    )


def _lines(output: Output) -> tuple[list[Samples | Skipped], list[str]]:
    """The lines of ``output``, and what is left out of them."""
    test = output.program.rpartition("/")[2].partition("_perf")[0]
    if test not in _COLLECTIVES:
        raise RecordError(f"it is of {shown(output.program)}, and nccl-bench has only {', '.join(_COLLECTIVES)}")
    if not 1 <= output.world_size < _MOST_RANKS:
        raise RecordError(f"it lists {output.world_size} ranks: it has to be at least 1")
    if not output.rows:
        raise RecordError("it has no whole row of results: was nccl-tests stopped before its first?")
    measured: dict[Case, list[Half]] = {}
    unknown: dict[str, None] = {}
    for row in output.rows:
        for case in _cases(output, _COLLECTIVES[test], row, unknown):
            halves = measured.setdefault(case, [])
            if case.placement in row.halves:
                halves.append(row.halves[case.placement])
    lines = [_line(output, case, halves) for case, halves in measured.items() if halves or not case.size_bytes]
    left_out = [f"{name}, which nccl-bench does not have" for name in unknown]
    if not lines:
        raise RecordError(f"it has no result that nccl-bench can read: {'; '.join(left_out) or 'its rows are empty'}")
    return lines, left_out


def _cases(output: Output, collective: Collective, row: ResultRow, unknown: dict[str, None]) -> list[Case]:
    """The case of every placement of ``row``; none, and a word in ``unknown``, where our table lacks its type."""
    dtype = DTYPES.get(DTYPE_ALIASES.get(row.dtype, row.dtype))
    if dtype is None or (collective.reduces and row.redop not in list(RedOp)):
        unknown[shown(f"{row.dtype} {row.redop}")] = None
        return []
    if collective.size_bytes(row.count, dtype.itemsize, output.world_size) != row.size_bytes:
        raise RecordError(
            f"a row has {row.size_bytes} B and a count of {row.count} {dtype.name}, which does not fit "
            f"{collective.name} on {output.world_size} ranks"
        )
    if collective.rooted and not 0 <= row.root < output.world_size:
        raise RecordError(f"a row has the root {row.root}: the ranks are 0 to {output.world_size - 1}")
    return [
        Case(
            scenario=Scenario.ISOLATED,
            collective=collective.name,
            dtype=dtype.name,
            # Where nothing is reduced nccl-tests prints one all the same.
            redop=RedOp(row.redop) if collective.reduces else None,
            placement=placement,
            root=row.root if collective.rooted else None,
            size_bytes=row.size_bytes,
            count=row.count,
        )
        for placement in collective.placements
    ]


def _line(output: Output, case: Case, halves: Sequence[Half]) -> Samples | Skipped:
    if not halves:
        return Skipped(case=case, reason="nccl-tests rounds the blocks of its message down to nothing")
    counts = [half.wrong for half in halves]
    wrong = None if None in counts else sum(filter(None, counts))
    return Samples(
        case=case,
        arm=ARM,
        timing=output.timing,
        status=Status.WRONG if wrong else Status.OK,
        world_size=output.world_size,
        ops_per_batch=halves[0].operations,
        rounds=tuple(range(len(halves))),
        samples_us=tuple(half.time_us for half in halves),
        fastest_rank_us=(),
        slowest_rank=(),
        discarded=0,
        wrong=wrong,
        tolerance_ulp=None,
        arena=None,
        per_iteration=_over_rounds([half.per_iteration for half in halves if half.per_iteration]),
    )


def _over_rounds(rounds: Sequence[PerIteration]) -> PerIteration | None:
    """Percentiles of several rounds do not follow from those of each."""
    if len(rounds) < 2:
        return rounds[0] if rounds else None
    return PerIteration(
        operations=sum(one.operations for one in rounds),
        min_us=min(one.min_us for one in rounds),
        p50_us=None,
        p90_us=None,
        p99_us=None,
        max_us=max(one.max_us for one in rounds),
        cost_us=None,
    )
