"""Writes the directory of a run: ``run.json`` about the run, ``samples.jsonl``, and ``summary.csv`` at the end.

All three files exist before the first worker starts, so a path that cannot be written costs no measurement. Each line
is written as soon as it is measured, so a crash of a process loses no line. At the end of a case its lines are on the
disk, so a crash of the machine loses only the case that is being measured. Room for the last state of ``run.json`` is
taken at the start, so the end of a run is recorded even if the disk is full by then.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from nccl_bench import __version__
from nccl_bench.config.hidden_values import recordable_config
from nccl_bench.errors import RecordError
from nccl_bench.records.creation import Created, creating, make_fresh_directory
from nccl_bench.records.facts import time_text
from nccl_bench.records.files import append_lines, removed, replace_file, sync_file, writing
from nccl_bench.records.reserve import reserve, sync_directory, write_into_reserve
from nccl_bench.records.run import FILES, RUN, SAMPLES, SUMMARY, TOOL, Run, read_meta
from nccl_bench.records.schema import SCHEMA, Crash, Entry, Resume, Samples, dump
from nccl_bench.safety.secrets import masked

# The file with the room for the last state of run.json. It becomes run.json at the end.
RESERVE = ".reserve"
# A run.json of many arms has 40 kB. The rest of the room is for the last line and for summary.csv.
RESERVE_BYTES = 256 * 1024


class RunStatus(StrEnum):
    """The state of a run."""

    RUNNING = "running"  # the run goes on, or its launcher was killed
    COMPLETE = "complete"  # every case was measured or skipped, in all arms that support it
    PARTIAL = "partial"  # the run reached its end, but cases or arms are missing, because they hung or crashed
    INTERRUPTED = "interrupted"  # a signal ended the run
    FAILED = "failed"  # an error ended the run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStore:
    """The directory of a run that is being written.

    Several processes can have a store of the same directory, because each write opens its file. No lock is needed: rank
    0's worker writes, and the launching process writes only while no worker is alive.
    """

    path: Path  # the directory
    # The facts that remain if the directory is removed; None in a process that did not open the record.
    origin: Origin | None = None

    @classmethod
    def create(cls, out: Path | None, *, name: str, **fields: Any) -> RunStore:
        """Create the directory ``out``, by default ``results/<YYYYmmdd-HHMMSS>-<name>``, and its files.

        ``fields`` are the arguments of ``new_meta`` except ``name`` and ``started``.

        Raises ``UsageError`` if the directory cannot be written or already holds a record: a directory holds one
        record, and measured data is never overwritten. After an error, nothing is left of what was created.
        """
        started = datetime.now().astimezone()
        results = Path("results")
        meta = new_meta(name=name, started=started.isoformat(timespec="seconds"), **fields)
        with creating(out or results) as created:
            if out is None:
                path = make_fresh_directory(created, results, f"{started:%Y%m%d-%H%M%S}-{name}").absolute()
            else:
                created.make_directory(out, exist_ok=True)
                path = out.absolute()
            created.make_files(path, FILES)
            created.paths.append(path / RESERVE)
            reserve(path / RESERVE, RESERVE_BYTES)
            replace_file(path / RUN, _pretty(meta))
            samples = (path / SAMPLES).open("rb")
        return cls(path=path, origin=Origin(meta=meta, samples=samples, created=created))

    @classmethod
    def resume(cls, path: Path, command: Sequence[str]) -> RunStore:
        """Open the record of an unfinished run, which ``command`` continues. Raise ``RecordError`` if it cannot."""
        meta, path = read_meta(path), path.absolute()
        with writing(path / SAMPLES):
            samples = (path / SAMPLES).open("rb")
        # `Created` is empty, so that no file of the older run is removed, however this command ends.
        store = cls(path=path, origin=Origin(meta=meta, samples=samples, created=Created()))
        try:
            with writing(path / RESERVE):
                reserve(path / RESERVE, RESERVE_BYTES)
            store.append(Resume(started=time_text(), command=tuple(command)))
            store.sync()
            store.update(status=RunStatus.RUNNING, finished=None)
        except RecordError:
            (path / RESERVE).unlink(missing_ok=True)
            raise
        return store

    def append(self, *lines: Entry) -> None:
        """Add ``lines`` to ``samples.jsonl``. If this fails, add no line and raise ``RecordError``."""
        if lines:
            append_lines(self.path / SAMPLES, "".join(dump(_without_secrets(line)) for line in lines))

    def sync(self) -> None:
        """Wait until all lines of ``samples.jsonl`` are on the disk."""
        sync_file(self.path / SAMPLES)

    def meta(self) -> dict[str, Any]:
        """Return the content of ``run.json``; raise ``RecordError`` if it was removed."""
        if not (self.path / RUN).exists():
            raise RecordError(removed(self.path / RUN))
        return read_meta(self.path)

    def update(self, **changes: object) -> None:
        """Replace fields of ``run.json``; a reader sees the old file or the new file, never a part of a file."""
        replace_file(self.path / RUN, self._changed(changes))

    def finish(self, status: RunStatus) -> Mapping[str, object]:
        """Record in ``run.json`` how and when the run ended. Return these fields. This needs no room on the disk."""
        finished = time_text()
        ended = {"status": status, "finished": finished}
        text = self._changed(ended)
        reserved = self.path / RESERVE
        if reserved.exists():
            # A file system that copies on write can be too full to write into the reserve. Removing the reserve then
            # makes room.
            with suppress(OSError):
                write_into_reserve(reserved, self.path / RUN, text.encode())
                sync_directory(self.path)
                return ended
            reserved.unlink(missing_ok=True)
        replace_file(self.path / RUN, text)
        return ended

    def write_summary(self, csv: str) -> None:
        """Replace ``summary.csv``."""
        replace_file(self.path / SUMMARY, csv)

    def load(self) -> Run:
        """Return the run as it was recorded. If its directory was removed, facts that workers recorded are missing."""
        if self.origin is None or ((self.path / RUN).exists() and (self.path / SAMPLES).exists()):
            return Run.load(self.path)
        return self.origin.run(self.path / SAMPLES)

    def discard_if_empty(self) -> bool:
        """If no line was recorded, remove the files and directories that ``create`` made, and return True."""
        if self.origin is None or self.origin.has_lines():
            return False
        self.origin.created.remove()
        return True

    def _changed(self, changes: Mapping[str, object]) -> str:
        meta = self.meta()
        assert changes.keys() <= meta.keys(), f"not fields of run.json: {changes.keys() - meta.keys()}"
        return _pretty({**meta, **changes})


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The facts that the creator of a run's directory keeps, even after the directory was removed."""

    meta: Mapping[str, Any]  # the content of run.json at the start
    samples: BinaryIO  # samples.jsonl, which stays readable while it is open
    created: Created  # the directories and files

    def run(self, file: Path) -> Run:
        """Return the run without the facts that workers recorded; ``file`` is for messages."""
        self.samples.seek(0)
        return Run.parse(self.meta, self.samples, file)

    def has_lines(self) -> bool:
        """Return True if any line was recorded."""
        return os.fstat(self.samples.fileno()).st_size > 0


def new_meta(
    *,
    name: str,
    started: str,
    config: Mapping[str, object],
    launch: Mapping[str, object],
    cases: int | None = None,
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
        "config": recordable_config(config),
        "launch": dict(launch),
        "cases": cases,
        "left_out": list(left_out),
        "environment": dict(environment),
        "worker": worker,
    }


def _without_secrets(line: Entry) -> Entry:
    """Return ``line`` without secrets in the texts that the user's code can write."""
    if isinstance(line, Crash):
        return replace(line, message=masked(line.message))
    if isinstance(line, Samples) and line.reason:
        return replace(line, reason=masked(line.reason))
    return line


def _pretty(meta: Mapping[str, object]) -> str:
    return json.dumps(meta, indent=2, allow_nan=False) + "\n"
