"""The lock of a record: only one command at a time writes a record, whatever the file system offers."""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from errno import EBADF, EIO, ENOLCK
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.errors import RecordError, UsageError
from nccl_bench.records.locks import is_written, locked


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "file"
    path.write_bytes(b"kept")
    yield path
    assert path.read_bytes() == b"kept"


def test_only_one_command_at_a_time_writes_a_record_and_its_end_frees_the_record(file: Path) -> None:
    hold = f"import fcntl; file = open({str(file)!r}); fcntl.flock(file, fcntl.LOCK_EX); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UsageError, match="another command writes"), locked(file):
            pass
        assert is_written(file, platform.node()) is True
        other.kill()
        other.wait()
    assert is_written(file, platform.node()) is False
    assert is_written(file, "another") is None
    with locked(file), pytest.raises(UsageError), locked(file):
        pass


def test_on_nfs_a_record_is_locked_because_its_file_is_open_for_writing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def flock_of_nfs(opened: Any, operation: int) -> None:
        mode = fcntl.fcntl(opened, fcntl.F_GETFL) & os.O_ACCMODE
        if operation & fcntl.LOCK_EX and mode == os.O_RDONLY:
            raise OSError(EBADF, os.strerror(EBADF))
        flock(opened, operation)

    monkeypatch.setattr(fcntl, "flock", flock_of_nfs)
    with locked(file):
        assert is_written(file, platform.node()) is True
        with pytest.raises(UsageError, match="another command writes"), locked(file):
            pass


@pytest.mark.parametrize("number", [EBADF, ENOLCK])
def test_a_file_system_without_locks_refuses_nothing(number: int, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with locked(file):
        assert is_written(file, platform.node()) is None


def test_another_error_of_a_lock_is_raised(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(EIO, os.strerror(EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output"), locked(file):
        pass


def test_a_file_that_is_missing_is_refused_as_a_record(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="was removed"), locked(tmp_path / "there" / "file"):
        pass
