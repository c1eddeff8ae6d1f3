"""Writes the directory of a run: ``run.json`` about the run, ``samples.jsonl``, and ``summary.csv`` at the end.

All three files exist before the first worker starts, so a path that cannot be written costs no measurement. Each line
is written as soon as it is measured, so a crash loses no line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from io import RawIOBase
from pathlib import Path
from typing import Any

from nccl_bench import __version__
from nccl_bench.errors import RecordError, UsageError
from nccl_bench.records.run import FILES, RUN, SAMPLES, SUMMARY, TOOL, VERIFICATION, read_meta
from nccl_bench.records.schema import SCHEMA, Line, dump


class RunStatus(StrEnum):
    """The state of a run."""

    RUNNING = "running"  # the run goes on, or its launcher was killed
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStore:
    """The directory of a run that is being written.

    Several processes can have a store of the same directory, because each write opens its file. No lock is needed: rank
    0's worker writes, and the launching process writes only while no worker is alive.
    """

    path: Path  # the directory

    @classmethod
    def create(cls, out: Path | None, *, name: str, **fields: Any) -> RunStore:
        """Create the directory ``out``, by default ``results/<YYYYmmdd-HHMMSS>-<name>``, and its files.

        ``fields`` are the arguments of ``new_meta`` except ``name`` and ``started``.

        Raises ``UsageError`` if the directory cannot be written or already holds a record: a directory holds one
        record, and measured data is never overwritten.
        """
        started = datetime.now().astimezone()
        with _creating(Path("results")):
            path = out or _fresh(Path("results"), f"{started:%Y%m%d-%H%M%S}-{name}")
        create_files(path, FILES)
        store = cls(path=path.absolute())
        meta = new_meta(name=name, started=started.isoformat(timespec="seconds"), **fields)
        store._replace(RUN, _pretty(meta))
        return store

    def append(self, line: Line) -> None:
        """Add ``line`` to ``samples.jsonl`` in one write; raise ``RecordError`` if the write fails."""
        data = dump(line).encode()
        with writing(self.path / SAMPLES), (self.path / SAMPLES).open("a+b", buffering=0) as file:
            _drop_partial_line(file)
            if file.write(data) != len(data):
                raise RecordError(f"{self.path / SAMPLES} has only a part of the last line: the disk may be full")

    def update(self, **changes: object) -> None:
        """Replace fields of ``run.json``; a reader sees the old file or the new file, never a part of a file."""
        meta = read_meta(self.path)
        assert changes.keys() <= meta.keys(), f"not fields of run.json: {changes.keys() - meta.keys()}"
        self._replace(RUN, _pretty(meta | changes))

    def finish(self, status: RunStatus) -> None:
        """Record in ``run.json`` how and when the run ended."""
        self.update(status=status, finished=datetime.now().astimezone().isoformat(timespec="seconds"))

    def write_summary(self, csv: str) -> None:
        """Replace ``summary.csv``."""
        self._replace(SUMMARY, csv)

    def _replace(self, name: str, text: str) -> None:
        part = self.path / f".{name}.{os.getpid()}"
        with writing(self.path / name):
            part.write_text(text, encoding="utf-8")
            part.replace(self.path / name)


def new_meta(
    *,
    name: str,
    started: str,
    config: Mapping[str, object],
    launch: Mapping[str, object],
    left_out: Sequence[str],
    environment: Mapping[str, object],
    command: Sequence[str] = (),
    status: RunStatus = RunStatus.RUNNING,
    finished: str | None = None,
    worker: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Return the content of a ``run.json``: everything that readers of a run need, in the order of the file."""
    return {
        "schema": SCHEMA,
        "tool": TOOL,
        "version": __version__,
        "name": name,
        "started": started,
        "finished": finished,
        "status": status,
        "command": list(command),
        "config": dict(config),
        "launch": dict(launch),
        "left_out": list(left_out),
        "environment": dict(environment),
        "worker": worker,
    }


def create_files(directory: Path, names: Sequence[str]) -> None:
    """Create empty files in ``directory``; raise ``UsageError`` if it holds a record or cannot be written."""
    with _creating(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for name in (*FILES, VERIFICATION):
            if (directory / name).exists():
                raise UsageError(f"{directory} already holds a record ({name}): choose another directory with --out")
        for name in names:
            (directory / name).open("x").close()


def _pretty(meta: Mapping[str, object]) -> str:
    return json.dumps(meta, indent=2, allow_nan=False) + "\n"


def _drop_partial_line(file: RawIOBase) -> None:
    """Remove an incomplete last line, which a killed process left: the next line must not be appended to that line."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return
    file.seek(size - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate((file.read(size) or b"").rfind(b"\n") + 1)


def _fresh(parent: Path, name: str) -> Path:
    """Create and return a directory in ``parent``: ``name``, or the first free name of ``name-2``, ``name-3``, ..."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


@contextmanager
def _creating(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{directory} cannot be written: {error.strerror}; choose a directory with --out") from error


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Raise ``RecordError`` if ``file`` cannot be written in the ``with`` block."""
    try:
        yield
    except OSError as error:
        raise RecordError(f"{file} cannot be written: {error.strerror}") from error
