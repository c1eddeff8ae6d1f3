"""The lock of a record: only one command at a time writes a record, and a reader can see whether a command does."""

from __future__ import annotations

import fcntl
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EBADF, ENOLCK, ENOSYS, ENOTSUP
from pathlib import Path
from typing import BinaryIO

from nccl_bench.errors import UsageError
from nccl_bench.records.files import writing
from nccl_bench.safety.regular_files import open_regular

# The errors of a file system that has no locks. Some NFS servers answer EBADF.
_NO_LOCKS = (EBADF, ENOLCK, ENOSYS, ENOTSUP)
# A reader holds a lock for less than a millisecond.
_READER_S = 0.1


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock on ``file`` within a ``with`` block. When this process ends, for any reason, the lock is free.

    Raises ``UsageError`` if another command holds the lock.
    """
    with writing(file):
        # On NFS, an exclusive lock needs a file that is open for writing: flock(2).
        opened = file.open("r+b")
    with opened:
        if _lock(opened, fcntl.LOCK_EX) is False:
            time.sleep(_READER_S)
            if _lock(opened, fcntl.LOCK_EX) is False:
                raise UsageError(f"another command writes {file.parent} at present: wait for its end")
        yield


def is_written(file: Path, hostname: object) -> bool | None:
    """Return True if a command holds the lock on ``file``. ``hostname`` is the host on which ``file`` was created.

    Return ``None`` if this is unknown: a lock may be invisible on another host, and some file systems have no locks.
    """
    if hostname != platform.node():
        return None
    try:
        opened = open_regular(file)
    except OSError:
        # The function that reads this file next raises an error with the reason.
        return None
    with opened:
        free = _lock(opened, fcntl.LOCK_SH)
    return None if free is None else not free


def _lock(file: BinaryIO, kind: int) -> bool | None:
    """Try to lock ``file``. Return whether it was free; ``None`` if the file system has no locks."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True
