"""Opens a recording, which can be compressed, and yields parts of its JSON without keeping the rest in memory."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from nccl_bench.errors import RecordError
from nccl_bench.safety.regular_files import lines_of, open_regular, too_large

# The most bytes of a recording, unpacked. A compressed file of 1 MB can hold about 1,000 MB.
MOST_BYTES_OF_TRACE = 16 * 1024**3
# The most bytes of an entry of a list. The parser reads a long text again with each piece, which is slow.
MOST_BYTES_OF_ENTRY = 1024**2
# The bytes at the beginning of a file that show its format.
_HEAD = 64 * 1024
_GZIP = b"\x1f\x8b"
# The most lists and objects that are open at the end of a piece, and the bytes of a piece. The parser's memory
# grows with the square of the number of open lists and objects. The worst possible piece needs some 40 MB.
_MOST_OPEN = 1000
_PIECE = 8 * 1024


class Unpacked:
    """The content of a file, unpacked. An endless file is refused, and so is an entry of JSON that is too long."""

    def __init__(self, opened: BinaryIO) -> None:
        packed = opened.read(len(_GZIP)) == _GZIP
        opened.seek(0)
        self._file: BinaryIO = gzip.GzipFile(fileobj=opened) if packed else opened  # type: ignore[assignment]
        self._total = 0
        self._since_item = 0
        self._open = 0
        self.head = self._file.read(_HEAD)
        self._file.seek(0)

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes. Raise ``OSError`` if the file or its current part is too long."""
        content = self._file.read(size)
        self._count(len(content))
        self._since_item += len(content)
        # Brackets in texts count too. Each entry starts the count again, so these brackets do not add up.
        self._open += sum(content.count(mark) for mark in (b"[", b"{"))
        self._open -= sum(content.count(mark) for mark in (b"]", b"}"))
        if self._open > _MOST_OPEN:
            raise too_large(f"an entry is nested more than {_MOST_OPEN:,} levels deep")
        if self._since_item > MOST_BYTES_OF_ENTRY:
            raise too_large(f"an entry has more than {MOST_BYTES_OF_ENTRY:,} bytes; an entry must be shorter")
        return content

    def read_all(self, most_bytes: int) -> bytes:
        """Return the whole content. Raise ``OSError`` if it has more than ``most_bytes``."""
        content = self._file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise too_large(f"it has more than {most_bytes:,} bytes, which is the most for such a file")
        return content

    def lines(self) -> Iterator[bytes]:
        """Yield the lines. Raise ``OSError`` if the file or a line is too long."""
        for line in lines_of(self._file):
            self._count(len(line))
            yield line

    def items(self, path: str) -> Iterator[Any]:
        """Yield each value at ``path``, such as ``traceEvents.item``; raise ``RecordError`` for malformed JSON."""
        import ijson

        self._file.seek(0)
        self._since_item = self._open = 0
        try:
            # A number of JSON can have any number of digits; a float is exact enough for what is read here.
            for item in ijson.items(self, path, use_float=True, buf_size=_PIECE):
                self._since_item = self._open = 0
                yield item
        except (ijson.JSONError, ValueError, OverflowError) as error:
            raise RecordError(f"its JSON is malformed: {str(error).splitlines()[0][:200]}") from error

    def _count(self, size: int) -> None:
        self._total += size
        if self._total > MOST_BYTES_OF_TRACE:
            raise too_large(f"it has more than {MOST_BYTES_OF_TRACE:,} bytes, which is the most for a recording")


@contextmanager
def open_recording(path: Path) -> Iterator[Unpacked]:
    """Open ``path``; in the ``with`` block, raise ``RecordError`` if the file cannot be read or unpacked."""
    try:
        with open_regular(path) as opened:
            yield Unpacked(opened)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecordError(f"{path} cannot be read: {reason}") from error
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from error
