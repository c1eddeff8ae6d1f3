"""Reading the directory of a run, whoever wrote it and however it ended."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nccl_bench.catalog.arms import IMPORTED_ARMS
from nccl_bench.catalog.cases import Case
from nccl_bench.errors import RecordError
from nccl_bench.records.schema import SCHEMA, Line, Samples, parse, parse_json
from nccl_bench.records.upgrade import upgrade

TOOL = "nccl-bench"
RUN, SAMPLES, SUMMARY = FILES = ("run.json", "samples.jsonl", "summary.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as read: ``meta`` is ``run.json``, ``lines`` the samples, ``warnings`` what was odd about the files."""

    meta: Mapping[str, Any]
    lines: tuple[Line, ...]
    warnings: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read the directory ``path``; raises ``RecordError`` with the file, the line and what is wrong with it."""
        meta = read_meta(path)
        file = path / SAMPLES
        text = _read_text(file)
        *complete, rest = text.split("\n")
        warnings = (
            [f"{file} ends within line {len(complete) + 1}, which is ignored: its writer was killed"] if rest else []
        )
        lines = []
        for number, line in enumerate(complete, start=1):
            try:
                lines.append(parse(line))
            except RecordError as error:
                raise RecordError(f"{file}, line {number}: {error}") from error
        attempts = _attempts(lines)
        _refuse_repeats(lines, attempts, file)
        return cls(meta=meta, lines=tuple(_last_attempts(lines, attempts)), warnings=tuple(warnings))

    @property
    def world_size(self) -> int:
        """The number of ranks."""
        return int(self.meta["launch"]["world_size"])

    @property
    def device(self) -> str:
        """``cuda`` or ``cpu``."""
        return str(self.meta["config"]["device"])

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with."""
        return str(self.meta["config"]["baseline"])

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms of the run, baseline first."""
        return tuple(dict.fromkeys((self.baseline, *self.meta["config"]["arms"])))

    @property
    def is_import(self) -> bool:
        """True for a run that another tool measured and ``nccl-bench import`` recorded."""
        return is_import(self.meta)


def is_import(meta: Mapping[str, Any]) -> bool:
    """Return True if ``meta``, a ``run.json``, is of a run that another tool measured."""
    return meta["config"].get("baseline") in IMPORTED_ARMS


def _attempts(lines: Sequence[Line]) -> list[int]:
    """Of each line how often its case had ended before it: a case is measured again behind a hang or a crash in it."""
    ends: Counter[Case | None] = Counter()
    attempts = []
    for line in lines:
        attempts.append(ends[line.case])
        ends[line.case] += not isinstance(line, Samples)
    return attempts


def _refuse_repeats(lines: Sequence[Line], attempts: Sequence[int], file: Path) -> None:
    """Raise where an attempt has a cell twice: of which run would it be?"""
    seen = set()
    for number, (line, attempt) in enumerate(zip(lines, attempts, strict=True), start=1):
        if isinstance(line, Samples):
            cell = (line.case, line.arm, line.timing, attempt)
            if cell in seen:
                raise RecordError(f"{file}, line {number}: {line.arm!r} has {line.case.label} {line.timing} twice")
            seen.add(cell)


def _last_attempts(lines: Sequence[Line], attempts: Sequence[int]) -> Iterator[Line]:
    """``lines`` without the samples of attempts before the last: rounds of two attempts are no pairs."""
    last = {line.case: attempt for line, attempt in zip(lines, attempts, strict=True) if isinstance(line, Samples)}
    for line, attempt in zip(lines, attempts, strict=True):
        if not isinstance(line, Samples) or attempt == last[line.case]:
            yield line


# What a report needs of run.json, and the type of each.
_FIELDS: Mapping[tuple[str, ...], type] = {
    ("name",): str,
    ("started",): str,
    ("status",): str,
    ("version",): str,
    ("left_out",): list,
    ("environment",): dict,
    ("config",): dict,
    ("config", "device"): str,
    ("config", "baseline"): str,
    ("config", "arms"): list,
    ("launch",): dict,
    ("launch", "world_size"): int,
}
# The same of what may be missing, and of what lists hold.
_OPTIONAL: Mapping[tuple[str, ...], type] = {
    ("worker",): dict,
    ("worker", "transport"): dict,
    ("worker", "loop_cost_us"): float,
    ("worker", "other_nccl_libraries"): list,
    ("worker", "paths"): list,
    ("worker", "user_arms"): list,
    ("worker", "process_sets"): list,
    ("worker", "unread_variables"): list,
    ("worker", "registered"): dict,
    ("environment", "gpus"): list,
    ("environment", "hostnames"): list,
    ("environment", "variables"): dict,
}
_ENTRIES: Mapping[tuple[str, ...], type] = {
    ("left_out",): str,
    ("config", "arms"): str,
    ("environment", "gpus"): dict,
    ("worker", "other_nccl_libraries"): str,
    ("worker", "paths"): dict,
    ("worker", "user_arms"): dict,
    ("worker", "process_sets"): dict,
    ("worker", "unread_variables"): str,
}


def read_meta(path: Path) -> dict[str, Any]:
    """``run.json`` in ``path``; raises ``RecordError`` where there is none, or not one that this version reads."""
    if not path.is_dir():
        raise RecordError(f"{path} is not a run: it is {'a file' if path.exists() else 'not there'}; give a directory")
    file = path / RUN
    if not file.exists():
        raise RecordError(f"{path} is not a run: it has no {RUN}")
    try:
        meta = parse_json(_read_text(file))
    except RecordError as error:
        raise RecordError(f"{file}: {error}") from error
    if not isinstance(meta, dict) or meta.get("tool") != TOOL or not isinstance(meta.get("schema"), int):
        raise RecordError(f"{file} was not written by {TOOL}")
    if meta["schema"] > SCHEMA:
        raise RecordError(
            f"{file} was written by {TOOL} {meta.get('version')} with schema {meta['schema']}; this version reads "
            f"up to {SCHEMA}: use that version or a later one"
        )
    meta = upgrade(meta)
    for keys, expected in (*_FIELDS.items(), *_OPTIONAL.items()):
        value = _at(meta, keys)
        # JSON has no infinity, and 1e999 all the same.
        if value in (math.inf, -math.inf):
            raise RecordError(f"{file}: {'.'.join(keys)} is {value}: it has to be finite")
        if not isinstance(value, expected) and not (keys in _OPTIONAL and value is None):
            raise RecordError(f"{file}: {'.'.join(keys)} is {value!r}: it has to be {expected.__name__}")
    for keys, expected in _ENTRIES.items():
        for entry in _at(meta, keys) or ():
            if not isinstance(entry, expected):
                raise RecordError(f"{file}: {'.'.join(keys)} has {entry!r}: each has to be {expected.__name__}")
    return meta


def _at(meta: Mapping[str, Any], keys: Sequence[str]) -> Any:
    value: Any = meta
    for key in keys:
        value = (value or {}).get(key)
    return value


def _read_text(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise RecordError(f"{file} cannot be read: {reason}") from error
