"""Reads the lines of ``samples.jsonl`` quickly: a run can have a million of them.

msgspec decodes the usual lines. Any other line, also a wrong one, goes to ``schema.parse``, whose messages show the
refused value. Lines of one case repeat most of its facts, and such facts are decoded once and shared.
"""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_type_hints

import msgspec

from nccl_bench.errors import RecordError
from nccl_bench.records.decoding import decode, parse_json
from nccl_bench.records.mirrors import mirror
from nccl_bench.records.schema import CaseEnd, Entry, Samples, check, parse


def read_entries(lines: Iterable[bytes], file: Path) -> tuple[list[Entry], tuple[str, ...]]:
    """Return the entries in ``lines``, and a warning if the last line is incomplete, because its writer was killed.

    Raises ``RecordError`` with ``file``, the number of the line and the reason.
    """
    shared: dict[Any, dict[bytes, Any]] = {}
    usual = {mirror(kind, raw=frozenset(_shared_fields(kind))): _Usual(kind, shared) for kind in (Samples, CaseEnd)}
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Union[*usual])
    entries: list[Entry] = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            _text(line, file)
            return entries, (f"{file} ends within line {number}. This line is ignored: its writer was killed",)
        try:
            decoded = decoder.decode(line)
            entry = usual[type(decoded)].entry(decoded)
        # The last two are for a line that is nested too deeply, and for a line that is not UTF-8.
        except (msgspec.MsgspecError, RecordError, RecursionError, UnicodeDecodeError):
            try:
                entry = parse(_text(line, file))
            except RecordError as error:
                raise RecordError(f"{file}, line {number}: {error}") from error
        entries.append(entry)
    return entries, ()


class _Usual:
    """A kind of usual line, and the values that its lines share.

    ``shared`` has these values by their type and their JSON; the kinds of lines share it, because each line has a case.
    """

    def __init__(self, kind: type[Samples | CaseEnd], shared: dict[Any, dict[bytes, Any]]) -> None:
        self._kind = kind
        self._names = [field.name for field in fields(kind)]
        # The position of each shared field, its type, and its values by their JSON.
        self._shared: list[tuple[int, Any, dict[bytes, Any]]] = [
            (self._names.index(name), hint, shared.setdefault(hint, {})) for name, hint in _shared_fields(kind).items()
        ]

    def entry(self, decoded: msgspec.Struct) -> Entry:
        """Return the entry with the fields of ``decoded``; raise ``RecordError`` if a value is wrong."""
        members: list[Any] = list(msgspec.structs.astuple(decoded))
        for position, hint, values in self._shared:
            if (raw := members[position]) is not None:
                text = bytes(raw)
                try:
                    members[position] = values[text]
                except KeyError:
                    values[text] = decode(hint, parse_json(text.decode()), self._names[position])
                    members[position] = values[text]
        entry: Entry = self._kind(**dict(zip(self._names, members, strict=True)))
        check(entry)
        return entry


def _text(line: bytes, file: Path) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"{file} cannot be read: it is not text") from error


def _shared_fields(kind: type[Samples | CaseEnd]) -> dict[str, Any]:
    """Return the fields whose values repeat from line to line, with their types: objects, and the rounds' numbers."""
    return {
        name: hint
        for name, hint in get_type_hints(kind, include_extras=True).items()
        if name == "rounds" or any(is_dataclass(option) for option in (hint, *get_args(hint)))
    }
