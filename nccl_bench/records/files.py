"""Writes files of a record so that a killed process, a full disk or a crash of the machine leaves no broken file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, ENOSPC
from io import RawIOBase
from pathlib import Path

from nccl_bench.errors import RecordError
from nccl_bench.records.reserve import sync_directory, write_all, write_into_reserve


def append_lines(file: Path, lines: str) -> None:
    """Add complete lines to ``file``, which must exist. If this fails, add no line and raise ``RecordError``.

    First remove an incomplete line that a killed process left.
    """
    # Do not create the file: if it was removed, its earlier lines are missing.
    with writing(file), os.fdopen(os.open(file, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW), "r+b", buffering=0) as opened:
        size = _drop_partial_line(opened)
        try:
            write_all(opened.fileno(), lines.encode())
        except OSError:
            opened.truncate(size)
            raise


def sync_file(file: Path) -> None:
    """Wait until the content of ``file`` is on the disk."""
    with writing(file):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(file: Path, text: str) -> None:
    """Replace ``file``; afterwards ``text`` is on the disk."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    with writing(file):
        try:
            write_into_reserve(part, file, text.encode())
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        sync_directory(file.parent)


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Raise ``RecordError`` if ``file`` cannot be written in the ``with`` block."""
    try:
        yield
    except FileNotFoundError as error:
        raise RecordError(removed(file)) from error
    except OSError as error:
        advice = "free space on this disk" if error.errno in (ENOSPC, EDQUOT) else "make it writable"
        raise RecordError(f"{file} cannot be written: {error.strerror}; {advice}") from error


def removed(file: Path) -> str:
    """Return the message for a ``file`` of a record that is missing."""
    what = file if file.parent.is_dir() else file.parent
    return (
        f"{what} was removed or renamed, so nothing more can be recorded in it: start again, and keep the directory "
        "until the end"
    )


def _drop_partial_line(file: RawIOBase) -> int:
    """Remove an incomplete last line, which a killed process left, and return the size of the other lines."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return 0
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return size
    file.seek(0)
    return file.truncate((file.read(size) or b"").rfind(b"\n") + 1)
