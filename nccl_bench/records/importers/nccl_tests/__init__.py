"""Reads the output of nccl-tests (https://github.com/NVIDIA/nccl-tests) and makes the lines of a run from it.

``document`` reads its JSON, ``table`` reads what it prints, and both return an ``Output``.
"""

from collections.abc import Sequence

from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Collective, Placement, RedOp
from nccl_bench.catalog.dtypes import DTYPE_ALIASES, DTYPES
from nccl_bench.catalog.nccl_version import version_text
from nccl_bench.config.sizes import unique
from nccl_bench.errors import RecordError
from nccl_bench.records.decoding import parse_json, shown
from nccl_bench.records.importers.imported import Imported, OverRanks
from nccl_bench.records.importers.nccl_tests.document import read_document
from nccl_bench.records.importers.nccl_tests.output import Output, PlacementResult, ResultRow
from nccl_bench.records.importers.nccl_tests.table import read_table
from nccl_bench.records.schema import PerIteration, Samples, Skipped, Status

ARM = "nccl-tests"
SLOWEST_OPTION = "-a 3"
RULES = {
    OverRanks.FIRST: "rank 0's (-a 0)",
    OverRanks.AVERAGE: "the average over ranks (-a 1)",
    OverRanks.MINIMUM: "the fastest rank's (-a 2)",
    OverRanks.MAXIMUM: f"the slowest rank's ({SLOWEST_OPTION})",
    None: f"the average over ranks, unless {ARM} ran with -a 0, 2 or 3",
}
OWN_PROCESSES = "start it with mpirun, one process for each GPU, and -t 1 -g 1"
_RENAMED = {"all_to_all": "alltoall", "send_recv": "sendrecv"}
# The name of nccl-tests' program, without "_perf" -> the collective.
_PROGRAMS = {_RENAMED.get(name, name): row for name, row in COLLECTIVES.items()}
# More ranks than any communicator has.
_RANK_LIMIT = 2**31


def read(text: str, name: str) -> Imported | None:
    """Return the content of the file ``name``, whose ``text`` is nccl-tests' JSON or table; ``None`` for other text.

    Times are those that nccl-tests reports: averages over ranks, unless ``-a`` set another rule. A message that
    nccl-tests rounds down to 0 bytes is skipped. A placement that ``COLLECTIVES`` does not have, such as alltoall in
    place, is left out. If nccl-tests measured a case several times, each result becomes a round.
    """
    output = read_document(parse_json(text)) if text.lstrip().startswith("{") else read_table(text)
    if output is None:
        return None
    lines, left_out = _lines(output)
    return Imported(
        arm=ARM,
        source=(name,),
        world_size=output.world_size,
        processes=output.processes,
        over_ranks=output.over_ranks,
        started=output.started,
        finished=output.finished,
        nccl_version=None if output.nccl_version is None else version_text(output.nccl_version),
        hostnames=unique(output.hostnames),
        gpus=unique(output.gpus),
        variables=output.variables,
        whole=not output.left_out,
        left_out=tuple(f"{name}: {reason}" for reason in (*output.left_out, *left_out)),
        lines=tuple(lines),
    )


def _lines(output: Output) -> tuple[list[Samples | Skipped], list[str]]:
    """Return the lines of ``output``, and a sentence about each kind of row that is left out."""
    program = output.program.rpartition("/")[2].partition("_perf")[0]
    if program not in _PROGRAMS:
        raise RecordError(
            f"its program is {shown(output.program)}, and nccl-bench has only the collectives of {', '.join(_PROGRAMS)}"
        )
    if not 1 <= output.world_size < _RANK_LIMIT:
        raise RecordError(f"it lists {output.world_size} ranks: it has to be at least 1")
    if not output.rows:
        raise RecordError("it has no complete row of results: let nccl-tests finish, then import its output")
    measured: dict[Case, list[PlacementResult]] = {}
    unknown: dict[str, None] = {}
    for row in output.rows:
        for case in _cases(output, _PROGRAMS[program], row, unknown):
            results = measured.setdefault(case, [])
            if case.placement in row.results:
                results.append(row.results[case.placement])
    lines = [_line(output, case, results) for case, results in measured.items() if results or not case.size_bytes]
    left_out = [f"{name}, which nccl-bench does not have" for name in unknown]
    if not lines:
        raise RecordError(f"it has no result that nccl-bench can read: {'; '.join(left_out) or 'its rows are empty'}")
    return lines, left_out


def _cases(output: Output, collective: Collective, row: ResultRow, unknown: dict[str, None]) -> list[Case]:
    """Return the case of every placement of ``row``.

    If nccl-bench lacks the row's data type or reduction, add both names to ``unknown`` and return no case.
    """
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


def _line(output: Output, case: Case, results: Sequence[PlacementResult]) -> Samples | Skipped:
    if not results:
        return Skipped(case=case, reason="nccl-tests rounds the blocks of its message down to 0 B")
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
        samples_us=tuple(result.time_us for result in results),
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
