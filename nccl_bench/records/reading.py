"""Reads the lines of ``samples.jsonl`` quickly: a run can have a million of them.

msgspec decodes the usual lines, and their values go into columns. Any other line, also a wrong one, goes to
``schema.parse``, whose messages show the refused value. Lines of one case repeat most of its facts, and such facts are
decoded once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from functools import cache
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Union, get_args, get_type_hints

import msgspec
import numpy as np

from nccl_bench.catalog.cases import Case
from nccl_bench.errors import RecordError
from nccl_bench.records.columns import VALUES, Codes
from nccl_bench.records.columns_builder import ColumnsBuilder
from nccl_bench.records.decoding import decode, parse_json
from nccl_bench.records.lines import Lines
from nccl_bench.records.mirrors import mirror
from nccl_bench.records.redaction import redact_line
from nccl_bench.records.scenario_times import PartTimes, check_parts
from nccl_bench.records.schema import CaseEnd, Entry, Samples, Skipped, check_case, parse

# This many lines are read at once. More lines would need more memory and save no time.
_BLOCK = 2000
# The errors after which a line is read by `schema.parse`. The last two are for a line that is nested too deeply and for
# a line that is not UTF-8.
_REFUSED = (msgspec.MsgspecError, RecordError, RecursionError, UnicodeDecodeError)


def read_entries(lines: Iterable[bytes], file: Path) -> tuple[Lines[Entry], tuple[str, ...]]:
    """Return the entries in ``lines``, and a warning if the last line is incomplete, because its writer was killed.

    Raises ``RecordError`` with ``file``, the number of the line and the reason.
    """
    reader = _Reader(file)
    left = iter(lines)
    while block := list(islice(left, _BLOCK)):
        if not block[-1].endswith(b"\n"):
            reader.read(block[:-1])
            warning = reader.read_incomplete(block[-1])
            return reader.entries(), (warning,)
        reader.read(block)
    return reader.entries(), ()


class _Reader:
    """Reads lines block by block into columns."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._count = 0  # the number of lines that were read
        hints = _shared_fields(Samples)
        self._codes = {name: _CodesOfJson(name, hints[name]) if name in hints else Codes() for name in VALUES}
        self._builder = ColumnsBuilder(self._codes)
        self._usual = {mirror(kind, raw=frozenset(_shared_fields(kind))): kind for kind in (Samples, CaseEnd, Skipped)}
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Union[*self._usual])
        self._positions: list[int] = []
        self._others: dict[int, Entry] = {}

    def read(self, block: Sequence[bytes]) -> None:
        """Read complete lines; raise ``RecordError`` for the first wrong line."""
        try:
            self._append(list(map(self._decoder.decode, block)))
        except _REFUSED:
            self._read_strictly(block)
        self._count += len(block)

    def read_incomplete(self, line: bytes) -> str:
        """Return the warning about a last line without an end."""
        _text(line, self._file)
        return f"{self._file} ends within line {self._count + 1}. This line is ignored: its writer was killed"

    def entries(self) -> Lines[Entry]:
        """Return the entries of all lines."""
        return Lines(self._builder.build(), np.array(self._positions, dtype=np.intp), self._others)

    def _read_strictly(self, block: Sequence[bytes]) -> None:
        entries: list[Any] = []
        for line in block:
            try:
                entries.append(self._decoder.decode(line))
            except _REFUSED:
                try:
                    entries.append(self._parsed(line, len(entries)))
                except RecordError:
                    # If a line before this one is wrong too, raise the error of that line.
                    self._append_or_refuse(entries, block)
                    raise
        self._append_or_refuse(entries, block)

    def _append_or_refuse(self, entries: Sequence[Any], block: Sequence[bytes]) -> None:
        try:
            self._append(entries)
        except _REFUSED:
            for index, line in enumerate(block):
                self._parsed(line, index)
            raise

    def _parsed(self, line: bytes, index: int) -> Entry:
        try:
            return parse(_text(line, self._file))
        except RecordError as error:
            raise RecordError(f"{self._file}, line {self._count + index + 1}: {error}") from error

    def _append(self, entries: Sequence[Any]) -> None:
        """Append decoded lines and strictly parsed lines. If a line is wrong, raise an error and append no line."""
        samples: list[tuple[int, Any]] = []
        others: dict[int, Entry] = {}
        for position, entry in enumerate(entries, start=self._count):
            kind = self._usual.get(type(entry))
            if kind is Samples or isinstance(entry, Samples):
                samples.append((position, entry))
            else:
                others[position] = redact_line(entry if kind is None else self._other(kind, entry))
        parts = [
            self._columns([line for _, line in group], is_usual)
            for is_usual, group in groupby(samples, key=lambda each: not isinstance(each[1], Samples))
        ]
        for part in parts:
            self._builder.append(part)
        self._positions += [position for position, _ in samples]
        self._others |= others

    def _columns(self, lines: Sequence[Any], is_usual: bool) -> dict[str, Any]:
        columns = self._builder.columns_of(lines, as_json=_shared_fields(Samples) if is_usual else ())
        rounds = self._codes["rounds"].in_order
        count = np.array([len(rounds[code]) for code in columns["rounds"].tolist()], dtype=np.intp)
        of_ranks, before, began = (columns[name].lengths for name in ("fastest_rank_us", "arms_before", "began_s"))
        fits = (columns["samples_us"].lengths == count) & (columns["slowest_rank"].lengths == of_ranks)
        for lengths in (of_ranks, before, began):
            fits &= (lengths == count) | (lengths == 0)
        skews = self._codes["skew"].in_order
        for line in np.flatnonzero(columns["skew"] >= 0).tolist():
            fits[line] &= skews[columns["skew"][line]].has_rounds(count[line])
        if not fits.all():
            raise RecordError("the columns of a line differ in length")
        return columns

    def _other(self, kind: Any, decoded: msgspec.Struct) -> Entry:
        members = msgspec.structs.asdict(decoded)
        cases = self._codes["case"]
        members["case"] = cases.in_order[cases[bytes(members["case"])]]
        entry: Entry = kind(**members)
        return entry


class _CodesOfJson(Codes):
    """The codes of values and of their JSON, for a field of ``Samples`` whose values repeat from line to line."""

    def __init__(self, field: str, hint: Any) -> None:
        super().__init__()
        self._field = field
        self._hint = hint

    def __missing__(self, key: Any) -> int:
        if not isinstance(key, bytes):
            return super().__missing__(key)
        value = decode(self._hint, parse_json(key.decode()), self._field)
        if isinstance(value, Case):
            check_case(value)
        if isinstance(value, PartTimes):
            check_parts(value)
        code = self[key] = self[value]
        return code


def _text(line: bytes, file: Path) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"{file} cannot be read: it is not text") from error


@cache
def _shared_fields(kind: Any) -> dict[str, Any]:
    """Return the fields whose values repeat from line to line, with their types: objects, and the rounds' numbers."""
    return {
        name: hint
        for name, hint in get_type_hints(kind, include_extras=True).items()
        if name == "rounds" or any(isinstance(each, type) and is_dataclass(each) for each in (hint, *get_args(hint)))
    }
