"""Reads the output of nccl-tests and rccl-tests, and makes the lines of a run from it.

https://github.com/NVIDIA/nccl-tests and https://github.com/ROCm/rccl-tests. ``documents`` reads their JSON, ``table``
reads what they print, and both return an ``Output``. ``cases`` checks an ``Output`` against itself, and makes lines.
"""

from collections.abc import Sequence
from dataclasses import replace

from nccl_bench.errors import RecordError, UsageError
from nccl_bench.records.importers.imported import Imported, OverRanks, merge
from nccl_bench.records.importers.nccl_tests.cases import ARM, imported
from nccl_bench.records.importers.nccl_tests.documents import documents_in
from nccl_bench.records.importers.nccl_tests.lines import lines_of
from nccl_bench.records.importers.nccl_tests.output import Output
from nccl_bench.records.importers.nccl_tests.rows import pieces_of_rows
from nccl_bench.records.importers.nccl_tests.sections import Section, is_part_of_table, sections_of
from nccl_bench.records.importers.nccl_tests.table import read_table

__all__ = ["ARM", "OWN_PROCESSES", "RULES", "SLOWEST_OPTION", "read"]

SLOWEST_OPTION = "-a 3"
RULES = {
    OverRanks.FIRST: "rank 0's (-a 0)",
    OverRanks.AVERAGE: "the average over ranks (-a 1)",
    OverRanks.MINIMUM: "the fastest rank's (-a 2)",
    OverRanks.MAXIMUM: f"the slowest rank's ({SLOWEST_OPTION})",
    None: f"the average over ranks, unless {ARM} ran with -a 0, 2 or 3",
}
OWN_PROCESSES = "start it with mpirun, one process for each GPU, and -t 1 -g 1"


def read(text: str, name: str, collective: str | None) -> Imported | None:
    """Return the content of the file ``name``, whose ``text`` holds JSON or tables; ``None`` for other text.

    ``collective`` is the name that the user gave, for tables that do not name their collective. The times are averages
    over ranks, unless ``-a`` of nccl-tests set another rule. A message that nccl-tests rounds down to 0 bytes is
    skipped. A placement that ``COLLECTIVES`` does not have, such as alltoall in place, is left out. Several tables of
    different cases become one run.
    """
    documents, rest = documents_in(text, collective)
    parts = [(f"document {number}", output) for number, output in enumerate(documents, 1)]
    parts += _tables(rest, collective)
    if not parts:
        return None
    if len(parts) == 1:
        return imported(parts[0][1], name)
    try:
        merged = merge([imported(output, f"{name} ({place})") for place, output in parts])
    except UsageError as error:
        raise RecordError(str(error)) from error
    return replace(merged, source=(name,))


def _tables(text: str, collective: str | None) -> list[tuple[str, Output]]:
    """Return the content of each table in ``text`` with its place."""
    sections = sections_of(lines_of(text))
    tables = [section for section in sections if section.is_table]
    outputs = []
    for table in tables:
        try:
            outputs.append((f"table from line {table.number}", read_table(table.lines, collective)))
        except RecordError as error:
            raise RecordError(
                f"the table from line {table.number}: {error}" if len(tables) > 1 else str(error)
            ) from error
    if outputs:
        place, first = outputs[0]
        outputs[0] = (place, replace(first, left_out=(*first.left_out, *_parts_without_settings(sections))))
    return outputs


def _parts_without_settings(sections: Sequence[Section]) -> list[str]:
    """Return sentences about parts of tables without settings. The results of such parts are missing."""
    lines = [line for section in sections if not section.is_table for line in section.lines]
    rows = {
        *(line.number for line in lines if is_part_of_table(line)),
        *(line.number for line in pieces_of_rows(lines)),
    }
    return [f"line {min(rows)} belongs to a table without settings, so its results are missing"] if rows else []
