"""The directory for the files of a command's launches. It is removed with the command, however the command ends."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "nccl-bench-"
# The process that uses a directory holds a lock on this file in it.
_LOCK = "lock"


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """Yield a new directory, and remove it afterwards. First remove those of commands that were killed."""
    _remove_abandoned()
    path = Path(tempfile.mkdtemp(prefix=_PREFIX))
    with (path / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield path
        finally:
            # Ignore errors: a network file system may still hold files.
            shutil.rmtree(path, ignore_errors=True)


def _remove_abandoned() -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            if path.stat().st_uid != os.getuid():
                continue
            with (path / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # it is in use, or it is not a directory of ours
        shutil.rmtree(path, ignore_errors=True)
