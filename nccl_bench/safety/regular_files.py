"""Opens the files that a user names, which can come from another person. Only regular files of a limited size are read.

A FIFO, a device or a terminal could make a reader wait for ever, and a sparse file could fill the memory. A command
refuses every such file within two seconds. It never opens a special file. It reads a regular file only up to the limit
below.

Each refusal is an ``OSError`` with the reason as ``strerror``. So callers treat it like the error of any other
unreadable file.
"""

import errno
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

# The most bytes of a file that is read as a whole; TOML has another limit. The guide states these limits.
MOST_BYTES_OF_TEXT = 64 * 1024**2
# The most bytes of a line of a file that is read line by line.
MOST_BYTES_OF_LINE = 16 * 1024**2
# The bytes of a file that one system call reads. The usual 8 KiB hold only a few lines of samples.
_BUFFER_BYTES = 256 * 1024
# A test of a file's mode, and the kind of the files that pass the test.
_OTHER_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def open_regular(file: Path) -> BinaryIO:
    """Open ``file`` for reading, without waiting; raise ``OSError`` if it is no regular file."""
    # Opening a device can already change it, so check before opening. The path can name another file by
    # then, so check the opened file again.
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
        # A file of /proc claims the size 0, so limit the read too. `read` returns None where it would have to wait.
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
