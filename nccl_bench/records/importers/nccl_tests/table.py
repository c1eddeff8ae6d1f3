"""nccl-tests' table, as its src/util.cu prints it: rows of numbers between lines that begin with ``#``."""

import re
from collections.abc import Sequence

from nccl_bench.catalog.collectives import Placement
from nccl_bench.errors import RecordError
from nccl_bench.records.importers.nccl_tests.output import (
    Output,
    PlacementResult,
    ResultRow,
    duration_us,
    timing_of,
    whole_number,
)
from nccl_bench.records.schema import PerIteration

_PROGRAM = re.compile(r"# Collective test starting: (\S+)")
_SETTINGS = re.compile(
    r"# nThread ([0-9]{1,9}) nGpus ([0-9]{1,9}) .* iters: ([0-9]{1,9}) agg iters: ([0-9]{1,9})"
    r"(?:.* graph: ([0-9]{1,9}))?"
)
_RANK = re.compile(r"# +Rank +[0-9]+(?: +Group +([0-9]+))? +Pid +[0-9]+ on +(\S+) device +[0-9]+ \[[^]]*\] *(.*)")
_LIBRARY = re.compile(r"# nccl-tests version .* nccl-library=([0-9]{1,9})\b")
_SKIPPED = re.compile(r"# Per-Iteration Report: .*summary skips first ([0-9]{1,9}) iterations")
_BLOCKING = re.compile(r"# Blocking Enabled")
_NAMES = re.compile(r"# +(size +count +type +.*)")
_ROW = re.compile(r" *([0-9]+ +[0-9]+ +[a-z].*)")
_END = re.compile(r"# (?:Out of bounds values|Avg bus bandwidth) *:")
_NUMBER = re.compile(r"[0-9]{1,19}(\.[0-9]{1,9})?(e[+-][0-9]{1,2})?")


def read_table(text: str) -> Output | None:
    """Return the content of the table in ``text``; ``None`` if there is no table.

    Lines that other programs printed are ignored. The message of a ``RecordError`` names what the table lacks.
    """
    lines = [line.rstrip() for line in text.split("\n")]
    settings = _all(_SETTINGS, lines)
    if not settings:
        return None
    programs = _all(_PROGRAM, lines)
    if len(programs) != 1 or len(settings) != 1:
        raise RecordError(
            f"it has {len(programs)} lines '# Collective test starting: X' and {len(settings)} lines '# nThread ...'. "
            "Give a file with one line of each kind: only these lines say what the table measured"
        )
    threads, gpus, iterations, aggregated, graph = (int(number or 0) for number in settings[0].groups())
    ranks = _all(_RANK, lines)
    # With NCCL_TESTS_SPLIT several groups measure at the same time. So count the ranks of one group only.
    world_size = sum(rank[1] == ranks[0][1] for rank in ranks)
    if world_size % max(1, threads * gpus):
        raise RecordError(
            f"it lists {world_size} ranks, but each process has {threads * gpus}, and {world_size} is not a multiple "
            f"of {threads * gpus}: the list of ranks in the file is incomplete"
        )
    headers = _all(_NAMES, lines)
    columns = headers[0][1].replace("timestamp", "date clock").split() if headers else []
    starts = [index for index, name in enumerate(columns) if name in ("time", "cputime")]
    skipped = sum(int(match[1]) for match in _all(_SKIPPED, lines))
    rows: list[ResultRow] = []
    broken = 0
    # If the last line has no newline, it may be incomplete.
    for match in _all(_ROW, lines[:-1]):
        cells = match[1].split()
        if len(cells) == len(columns) and len(starts) == 2:
            try:
                rows.append(_row(columns, cells, starts, iterations, aggregated * max(1, graph), skipped))
            except RecordError:
                broken += 1
        else:
            broken += 1
    left_out = []
    if not _all(_END, lines):
        left_out.append(
            f"the table has no end: nccl-tests did not finish, or its output was cut; complete rows: {len(rows)}"
        )
    if broken:
        left_out.append(f"incomplete rows of the table: {broken}")
    libraries = _all(_LIBRARY, lines)
    return Output(
        program=programs[0][1],
        world_size=world_size,
        processes=world_size // max(1, threads * gpus),
        timing=timing_of(graph_launches=graph, cpu_time="cputime" in columns, blocking=bool(_all(_BLOCKING, lines))),
        nccl_version=int(libraries[0][1]) if libraries else None,
        hostnames=tuple(rank[2] for rank in ranks),
        gpus=tuple(rank[3] for rank in ranks),
        rows=tuple(rows),
        left_out=tuple(left_out),
    )


def _all(pattern: re.Pattern[str], lines: Sequence[str]) -> list[re.Match[str]]:
    return [match for match in map(pattern.match, lines) if match]


def _row(
    columns: list[str], cells: list[str], starts: list[int], iterations: int, batch: int, skipped: int
) -> ResultRow:
    """Return one row, which has as many ``cells`` as ``columns``; raise ``RecordError`` if a cell is malformed.

    ``starts`` are the indices of the first column of each placement. Out-of-place comes first, as nccl-tests prints it.
    """
    out_of_place, in_place = starts
    case = dict(zip(columns, cells[:out_of_place], strict=False))
    size_bytes = whole_number(_number(case, "size"), "size")
    spans = {Placement.OUT_OF_PLACE: slice(out_of_place, in_place), Placement.IN_PLACE: slice(in_place, None)}
    return ResultRow(
        size_bytes=size_bytes,
        count=whole_number(_number(case, "count"), "count"),
        dtype=case["type"],
        redop=case.get("redop", ""),
        root=-1 if case.get("root", "-1") == "-1" else whole_number(_number(case, "root"), "root"),
        results={
            place: _placement_result(dict(zip(columns[span], cells[span], strict=True)), iterations, batch, skipped)
            for place, span in spans.items()
        }
        if size_bytes
        else {},
    )


def _placement_result(cells: dict[str, str], iterations: int, batch: int, skipped: int) -> PlacementResult:
    per_iteration = None
    if "i_min" in cells:
        per_iteration = PerIteration(
            operations=whole_number(iterations - skipped, "iterations"),
            min_us=duration_us(_number(cells, "i_min"), "i_min"),
            p99_us=duration_us(_number(cells, "i_p99"), "i_p99"),
            max_us=duration_us(_number(cells, "i_max"), "i_max"),
        )
    return PlacementResult(
        time_us=duration_us(_number(cells, "cputime" if "cputime" in cells else "time"), "time"),
        operations=whole_number(iterations * batch, "iterations"),
        wrong=None if cells.get("#wrong", "N/A") == "N/A" else whole_number(_number(cells, "#wrong"), "#wrong"),
        per_iteration=per_iteration,
    )


def _number(cells: dict[str, str], name: str) -> int | float:
    cell = cells.get(name, "")
    if not _NUMBER.fullmatch(cell):
        raise RecordError(f"{name} is {cell!r}: it has to be a number")
    return int(cell) if cell.isdigit() else float(cell)
