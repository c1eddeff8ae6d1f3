"""Writing the directory of a run: ``run.json`` about it, ``samples.jsonl`` as measured, ``summary.csv`` at the end.

All three exist before the first worker starts, so a bad path costs no measurement, and each sample is on its way to
the disk as soon as it is measured, so a crash loses none.
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

from nccl_bench import __version__
from nccl_bench.errors import RecordError, UsageError
from nccl_bench.records.run import FILES, RUN, SAMPLES, SUMMARY, TOOL, read_meta
from nccl_bench.records.schema import SCHEMA, Line, dump


class RunStatus(StrEnum):
    """How far a run came; one that was killed stays ``running``."""

    RUNNING = "running"
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStore:
    """A run being written.

    Any process may make one of the same ``path``: files are opened for each write. Writers take turns (rank 0's
    worker, then the launching process once no worker is alive); nothing here locks.
    """

    path: Path

    @classmethod
    def create(
        cls,
        out: Path | None,
        *,
        name: str,
        command: Sequence[str],
        config: Mapping[str, object],
        launch: Mapping[str, object],
        left_out: Sequence[str],
        environment: Mapping[str, object],
    ) -> RunStore:
        """Make the directory ``out``, by default ``results/<YYYYmmdd-HHMMSS>-<name>``, and its files.

        Raises ``UsageError`` where it cannot be written or already holds a run: measured data is never overwritten.
        """
        started = datetime.now().astimezone()
        path = out
        try:
            if path is None:
                path = _fresh(Path("results"), f"{started:%Y%m%d-%H%M%S}-{name}")
            path.mkdir(parents=True, exist_ok=True)
            for file in FILES:
                if (path / file).exists():
                    raise UsageError(f"{path} already holds a run ({file}): choose another directory with --out")
            for file in FILES:
                (path / file).open("x").close()
        except OSError as error:
            where = path or "results"
            raise UsageError(f"{where} cannot be written: {error.strerror}; choose a directory with --out") from error
        store = cls(path=path.absolute())
        store._replace(
            RUN,
            _pretty(
                {
                    "schema": SCHEMA,
                    "tool": TOOL,
                    "version": __version__,
                    "name": name,
                    "started": started.isoformat(timespec="seconds"),
                    "finished": None,
                    "status": RunStatus.RUNNING,
                    "command": list(command),
                    "config": dict(config),
                    "launch": dict(launch),
                    "left_out": list(left_out),
                    "environment": dict(environment),
                    "worker": None,
                }
            ),
        )
        return store

    def append(self, line: Line) -> None:
        """Add ``line`` to ``samples.jsonl`` in one write; raises ``RecordError`` where that fails."""
        data = dump(line).encode()
        with _writing(self.path / SAMPLES), (self.path / SAMPLES).open("a+b", buffering=0) as file:
            _drop_partial_line(file)
            if file.write(data) != len(data):
                raise RecordError(f"{self.path / SAMPLES} took a part of a line only: is the disk full?")

    def update(self, **changes: object) -> None:
        """Replace fields of ``run.json``; a reader sees the old file or the new one, never a part."""
        meta = read_meta(self.path)
        assert changes.keys() <= meta.keys(), f"not fields of run.json: {changes.keys() - meta.keys()}"
        self._replace(RUN, _pretty(meta | changes))

    def finish(self, status: RunStatus) -> None:
        """Record how the run ended, and when."""
        self.update(status=status, finished=datetime.now().astimezone().isoformat(timespec="seconds"))

    def write_summary(self, csv: str) -> None:
        """Replace ``summary.csv``."""
        self._replace(SUMMARY, csv)

    def _replace(self, name: str, text: str) -> None:
        part = self.path / f".{name}.{os.getpid()}"
        with _writing(self.path / name):
            part.write_text(text, encoding="utf-8")
            part.replace(self.path / name)


def _pretty(meta: Mapping[str, object]) -> str:
    return json.dumps(meta, indent=2, allow_nan=False) + "\n"


def _drop_partial_line(file: RawIOBase) -> None:
    """A writer killed within its write leaves a part of a line, which would spoil the next one as well."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return
    file.seek(size - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate((file.read(size) or b"").rfind(b"\n") + 1)


def _fresh(parent: Path, name: str) -> Path:
    """A new directory in ``parent``: ``name``, or the first of ``name-2``, ``name-3``, ... that nobody has."""
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
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecordError(f"{file} cannot be written: {error.strerror}") from error
