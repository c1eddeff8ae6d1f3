"""Opens the files that a user names, which can come from another person. Only regular files of a limited size are read.

A FIFO, a device or a terminal could make a reader wait for ever, and a sparse file could fill the memory. A command
refuses every such file within two seconds, because the work for it is limited: a special file is looked at and never
opened, and of a file that is too large no more than the limit below is read.

The errors are ``OSError`` with the reason as ``strerror``, so that callers treat them like any other file that cannot
be read.
"""

import errno
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

# The most bytes of a file that is read whole, except TOML. The guide states these limits.
MOST_BYTES_OF_TEXT = 64 * 1024**2
# The most bytes of a line of a file that is read line by line.
MOST_BYTES_OF_LINE = 16 * 1024**2
# So much of a file is read at once. The usual 8 KiB are a few lines of samples, and each reading is a system call.
_BUFFER_BYTES = 256 * 1024
# The test of a file's mode, and what such a file is.
_OTHER_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def open_regular(file: Path) -> BinaryIO:
    """Open ``file`` for reading, without waiting; raise ``OSError`` if it is no regular file."""
    # Opening a device can already change it, so look first. The second look is at the file that was opened.
    _refuse_other_kinds(os.stat(file))
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_other_kinds(os.fstat(descriptor))
        return os.fdopen(descriptor, "rb", _BUFFER_BYTES)
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(file: Path, most_bytes: int) -> bytes:
    """Return the content of ``file``; raise ``OSError`` if it is no regular file, or has more than ``most_bytes``."""
    with open_regular(file) as opened:
        if os.fstat(opened.fileno()).st_size > most_bytes:
            raise too_large(f"it has more than {most_bytes:,} bytes, which is the most for such a file")
        # A file of /proc has the size 0, and None instead of bytes if a reader would have to wait.
        content = opened.read(most_bytes + 1)
    if content is None or len(content) > most_bytes:
        raise too_large(f"it has no end within {most_bytes:,} bytes, which is the most for such a file")
    return content


def lines_of(opened: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of ``opened``; raise ``OSError`` for a line that is too long."""
    for number, line in enumerate(iter(partial(opened.readline, MOST_BYTES_OF_LINE), b""), start=1):
        if len(line) == MOST_BYTES_OF_LINE:
            raise too_large(f"line {number} has {MOST_BYTES_OF_LINE:,} bytes or more; a line must be shorter")
        yield line


def too_large(reason: str) -> OSError:
    """Return the error for a file that is too large to be read."""
    return OSError(errno.EFBIG, reason)


def _refuse_other_kinds(status: os.stat_result) -> None:
    for is_kind, kind in _OTHER_KINDS:
        if is_kind(status.st_mode):
            raise OSError(errno.EINVAL, f"it is {kind}, and only regular files are read")
