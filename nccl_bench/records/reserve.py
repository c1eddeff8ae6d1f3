"""Takes room on a disk early, so that a few important bytes can be written later even if the disk is full by then."""

import os
from errno import EINVAL, ENOSYS, ENOTSUP, EOPNOTSUPP
from pathlib import Path

# The errors by which a file system says that it cannot allocate room without writing.
_NO_ALLOCATION = (EINVAL, ENOSYS, ENOTSUP, EOPNOTSUPP)


def reserve(path: Path, size_bytes: int) -> None:
    """Create the file ``path`` with room for ``size_bytes``; raise ``OSError`` if the disk has no such room."""
    # Another user can have planted a link to another file under this name.
    path.unlink(missing_ok=True)
    with path.open("xb", buffering=0) as file:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size_bytes)
            except OSError as error:
                if error.errno not in _NO_ALLOCATION:
                    raise
            else:
                return
        # Random bytes, because a file system that compresses keeps no room for zeros.
        write_all(file.fileno(), os.urandom(size_bytes))


def write_into_reserve(reserved: Path, target: Path, data: bytes) -> None:
    """Write ``data`` over the start of the file ``reserved``, free the rest of its room, and rename it to ``target``.

    If ``reserved`` is missing, create it. Afterwards ``data`` is on the disk. The new name is on the disk only after
    ``sync_directory``. A reader sees the old ``target`` or the new one, never a part of a file.
    """
    descriptor = os.open(reserved, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        write_all(descriptor, data)
        os.ftruncate(descriptor, len(data))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    reserved.replace(target)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``; raise ``OSError`` if the disk has room for only a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_directory(directory: Path) -> None:
    """Wait until the names of the files in ``directory`` are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot do this for a directory.
        if error.errno != EINVAL:
            raise
    finally:
        os.close(descriptor)
