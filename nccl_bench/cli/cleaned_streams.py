"""Standard output and standard error of a rank that another launcher started: they are the user's terminal.

Ranks that nccl-bench started write into logs instead, and the command shows parts of these logs. In an attached rank,
texts that user arms and libraries print are cleaned like messages. Text that a C library writes is not cleaned.
"""

import io
import sys
import threading
from types import TracebackType
from typing import Self, TextIO

from nccl_bench.report.escaping import visible
from nccl_bench.safety.secrets import masked

# A line that is longer is written in parts.
_LONGEST = 10_000


class CleanedStreams:
    """A context in which ``sys.stdout`` and ``sys.stderr`` clean what is written into them."""

    def __init__(self) -> None:
        self._originals: tuple[TextIO, TextIO] | None = None

    def __enter__(self) -> Self:
        self._originals = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = map(CleanedStream, self._originals)
        return self

    def stop(self) -> None:
        """Bring back the original streams. Any thread may call this, and more than once."""
        originals, self._originals = self._originals, None
        if originals is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = originals

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class CleanedStream(io.TextIOBase):
    """A text stream that writes into another stream line by line, so that no secret is cut in two."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._begun = ""  # the beginning of a line

    @property
    def encoding(self) -> str:  # type: ignore[override]  # it cannot be set
        return self._stream.encoding

    @property
    def buffer(self) -> io.RawIOBase:
        """The stream for bytes, like ``sys.stdout.buffer``."""
        return _Bytes(self)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str, /) -> int:
        with self._lock:
            begun = self._begun + text
            whole = len(begun) if len(begun) > _LONGEST else begun.rfind("\n") + 1
            self._begun = begun[whole:]
            self._clean(begun[:whole])
        return len(text)

    def flush(self) -> None:
        with self._lock:
            begun, self._begun = self._begun, ""
            self._clean(begun)
            self._stream.flush()

    def _clean(self, text: str) -> None:
        if text:
            self._stream.write(visible(masked(text)))


class _Bytes(io.RawIOBase):
    """The stream for the bytes of a ``CleanedStream``."""

    def __init__(self, text: CleanedStream) -> None:
        self._text = text

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        content = bytes(data)  # type: ignore[call-overload]  # any object with a buffer
        self._text.write(content.decode(self._text.encoding, errors="backslashreplace"))
        return len(content)

    def flush(self) -> None:
        self._text.flush()
