"""The directory for the files of a command's launches. Its command removes it, or the next one if it was killed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

# Directories with this name are removed, so it must not be a name that users give to directories of their own.
_PREFIX = "nccl-bench-launches-"
# The process that uses a directory holds a lock on this file in it.
_LOCK = ".nccl-bench-lock"


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """Yield a new directory, and remove it afterwards. First remove the directories of commands that were killed."""
    _remove_abandoned()
    path, lock = _create_locked()
    with lock:
        try:
            yield path
        finally:
            # Ignore errors: a network file system may still hold files.
            shutil.rmtree(path, ignore_errors=True)


def _create_locked() -> tuple[Path, TextIO]:
    """Create a directory and return it with its lock."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        try:
            lock = (path / _LOCK).open("w")
        except FileNotFoundError:
            continue  # another command removed the directory before this one could lock it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (path / _LOCK).exists():
            return path, lock
        lock.close()  # another command had the lock first, and removed the directory


def _remove_abandoned() -> None:
    """Remove the directories of commands that were killed: directories without a lock, and empty directories."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            if path.lstat().st_uid != os.getuid():
                continue
            with (path / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Hold the lock until the directory is removed: a command that has just created it may wait for it.
                shutil.rmtree(path, ignore_errors=True)
        except FileNotFoundError:
            with suppress(OSError):  # it is gone or has files
                path.rmdir()
        except OSError:
            continue  # it is in use, or it is not a directory of ours
