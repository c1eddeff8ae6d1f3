"""The rows of a table: their cells as numbers, and the pieces of rows that other lines hold."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.dtypes import DTYPE_ALIASES
from nccl_bench.errors import RecordError
from nccl_bench.records.decoding import shown
from nccl_bench.records.importers.nccl_tests.columns import Columns
from nccl_bench.records.importers.nccl_tests.lines import Line
from nccl_bench.records.importers.nccl_tests.output import (
    Figure,
    PlacementResult,
    ResultRow,
    duration_us,
    whole_number,
)
from nccl_bench.records.schema import PerIteration

_ROW = re.compile(r" *[0-9]+ +[0-9]+ +[a-z]")
_NUMBER = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,9}))?(?:e([+-][0-9]{1,2}))?")
_PIECE = re.compile(
    # The beginning of a row whose rest is missing or replaced.
    r" +[0-9]+(?![0-9:.])(?: +[0-9]+)?(?: *$| *[A-Za-z])"
    # The cells before the first time.
    rf"|.*(?:\s|^)(?:{'|'.join(DTYPE_ALIASES)})\s+(?:none|{'|'.join(RedOp)})\s"
    # Time, algbw and busbw.
    r"|.*(?:\s|^)[0-9]+(?:\.[0-9]+)?\s+[0-9]+\.[0-9]{1,2}\s+[0-9]+\.[0-9]{1,2}(?:\s|$)"
    # A line of numbers only. First look for a digit, so that a long line is read once.
    r"|(?=[^0-9]*[0-9])[-+.0-9e\s]+$"
)


def is_row(line: Line) -> bool:
    """Return True if ``line`` begins as a row does: with a size, a count and a data type."""
    return bool(_ROW.match(line.text))


def pieces_of_rows(lines: Sequence[Line]) -> Iterator[Line]:
    """Yield the lines that are no complete row but hold a piece of a row."""
    for line in lines:
        if (line.aside or not is_row(line)) and not line.text.startswith("#") and _PIECE.match(line.text):
            yield line


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReader:
    """The reader of the rows of one table."""

    columns: Columns  # the columns of the table
    iterations: int  # measured iterations
    batch: int  # operations of an iteration
    skipped: int  # iterations that the percentiles exclude

    def row(self, line: Line) -> ResultRow:
        """Return the row on ``line``; raise ``RecordError`` if a cell is missing or malformed."""
        cells = line.text.split()
        names = self.columns.names
        if not line.is_whole:
            raise RecordError("it is the end of the file, and has no end of line")
        if len(cells) != len(names):
            raise RecordError(f"it has {len(cells)} cells, and the table has {len(names)} columns")
        case = dict(zip(names[self.columns.case], cells[self.columns.case], strict=True))
        size_bytes = whole_number(_number(case, "size").value, "size")
        return ResultRow(
            where=f"line {line.number}",
            size_bytes=size_bytes,
            count=whole_number(_number(case, "count").value, "count"),
            dtype=case["type"],
            redop=case.get("redop", ""),
            root=-1 if case.get("root", "-1") == "-1" else whole_number(_number(case, "root").value, "root"),
            results={
                place: self._result(dict(zip(names[span], cells[span], strict=True)))
                for place, span in self.columns.spans.items()
            }
            if size_bytes
            else {},
        )

    def _result(self, cells: Mapping[str, str]) -> PlacementResult:
        per_iteration = None
        if "i_min" in cells:
            per_iteration = PerIteration(
                operations=whole_number(self.iterations - self.skipped, "iterations"),
                min_us=_time(cells, "i_min").value,
                p99_us=_time(cells, "i_p99").value,
                max_us=_time(cells, "i_max").value,
            )
        if cells.get("error", "").endswith("*"):
            raise RecordError(
                f"its error is {shown(cells['error'])}, above the threshold of nccl-tests: the result is wrong"
            )
        # Before nccl-tests 2.13 the column `error` has the largest deviation, not the number of wrong elements.
        wrong = cells.get("#wrong", "N/A")
        return PlacementResult(
            time_us=_time(cells, "cputime" if "cputime" in cells else "time"),
            algbw_gb_s=_number(cells, "algbw"),
            busbw_gb_s=_number(cells, "busbw"),
            operations=whole_number(self.iterations * self.batch, "iterations"),
            wrong=None if wrong == "N/A" else whole_number(_number(cells, "#wrong").value, "#wrong"),
            per_iteration=per_iteration,
        )


def _time(cells: Mapping[str, str], name: str) -> Figure:
    figure = _number(cells, name)
    return Figure(duration_us(float(figure.value), name), figure.step)


def _number(cells: Mapping[str, str], name: str) -> Figure:
    cell = cells.get(name, "")
    match = _NUMBER.fullmatch(cell)
    if match is None:
        raise RecordError(f"{name} is {shown(cell)}: it has to be a number")
    is_whole = match[2] is None and match[3] is None
    return Figure(int(cell) if is_whole else float(cell), 10.0 ** (int(match[3] or 0) - len(match[2] or "")))
