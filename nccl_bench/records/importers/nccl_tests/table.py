"""nccl-tests' table, as its src/util.cu prints it: rows of numbers between lines that begin with ``#``."""

import re
from collections.abc import Sequence

from nccl_bench.errors import RecordError
from nccl_bench.records.importers.nccl_tests.abridging import abridged
from nccl_bench.records.importers.nccl_tests.columns import read_columns
from nccl_bench.records.importers.nccl_tests.lines import Line, matches
from nccl_bench.records.importers.nccl_tests.output import WRONG_WITHOUT_ROW, Output, ResultRow, timing_of
from nccl_bench.records.importers.nccl_tests.programs import collective_of
from nccl_bench.records.importers.nccl_tests.ranks import read_ranks
from nccl_bench.records.importers.nccl_tests.rows import RowReader, is_row, pieces_of_rows
from nccl_bench.records.importers.nccl_tests.settings import read_library, read_program, read_settings

_SKIPPED = re.compile(r"# Per-Iteration Report: .*summary skips first ([0-9]{1,9}) iterations")
_BLOCKING = re.compile(r"# Blocking Enabled")
_CYCLE = re.compile(r"# Testing ([0-9]{1,9}) cycle")
_END = re.compile(r"# (?:Out of bounds values|Avg bus bandwidth) *:")
_FAILED = re.compile(r"# Out of bounds values *: *([1-9][0-9]*)")


def read_table(lines: Sequence[Line], collective: str | None) -> Output:
    """Return the content of the table in ``lines``, the lines of one program.

    ``collective`` is the name that the user gave, or ``None``. Lines that other programs printed are ignored. The
    message of a ``RecordError`` names what the table lacks.
    """
    settings = read_settings(lines)
    program = read_program(lines)
    of_program = collective_of(program, collective)
    ranks = read_ranks(lines, settings.ranks_of_process)
    columns = read_columns(lines)
    library, notes_on_library = read_library(lines)
    reader = RowReader(
        columns=columns,
        iterations=settings.iterations,
        batch=settings.aggregated * max(1, settings.graph_launches),
        skipped=sum(int(match[1]) for match in matches(_SKIPPED, lines)),
    )
    rows: list[ResultRow] = []
    broken: list[str] = []
    for line in lines:
        if not line.aside and is_row(line):
            try:
                rows.append(reader.row(line))
            except RecordError as error:
                broken.append(f"the row on line {line.number}: {error}")
    broken += [f"line {line.number} holds a piece of a row" for line in pieces_of_rows(lines)]
    left_out = (
        []
        if matches(_END, lines)
        else [f"the table has no end: nccl-tests did not finish, or its output was cut; complete rows: {len(rows)}"]
    )
    left_out += abridged(broken, "broken rows")
    failed = matches(_FAILED, lines)
    if failed and not any(result.wrong for row in rows for result in row.results.values()):
        left_out.append(WRONG_WITHOUT_ROW.format(failed[0][1]))
    return Output(
        collective=of_program,
        world_size=ranks.world_size,
        processes=ranks.world_size // settings.ranks_of_process,
        timing=timing_of(
            graph_launches=settings.graph_launches,
            cpu_time=columns.has_cpu_time,
            blocking=bool(matches(_BLOCKING, lines)),
        ),
        sizes=settings.sizes,
        cycles=max((int(match[1]) for match in matches(_CYCLE, lines)), default=1),
        library=library,
        hostnames=ranks.hostnames,
        gpus=ranks.gpus,
        rows=tuple(rows),
        left_out=tuple(left_out),
        notes=(*notes_on_library, *ranks.notes, *columns.notes),
    )
