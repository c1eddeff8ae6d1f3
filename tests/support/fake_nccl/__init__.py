"""A fake libnccl, compiled for the tests and loaded like the real one. It records every call.

With one rank it moves the bytes, in host memory. With more ranks it moves nothing, so any integer can be a pointer.
Communicator handles must come from the fake itself.
"""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("fake_nccl.c")


def build(directory: Path, *flags: str) -> Path:
    """Compile the fake to ``directory/libnccl.so.2``; ``-DOLD`` makes it NCCL 2.12.12, ``-DQUIET`` makes it fast.

    With ``-DLOG`` it writes a log as NCCL does.
    """
    library = directory / "libnccl.so.2"
    soname = f"-Wl,-soname,{library.name}"
    command = ["cc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", soname, *flags, str(_SOURCE)]
    subprocess.run([*command, "-o", str(library)], check=True)
    return library


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that reached the library; arguments that the function does not have are ``None``."""

    function: str
    depth: int  # how many groups were open at its entry
    send: int | None = None
    recv: int | None = None
    count: int | None = None
    dtype: int | None = None
    op: int | None = None
    root: int | None = None
    peer: int | None = None
    comm: int | None = None
    stream: int | None = None
    nranks: int | None = None
    rank: int | None = None
    id: bytes | None = None
    color: int | None = None
    key: int | None = None
    config: int | None = None
    pointer: int | None = None
    size: int | None = None
    flags: int | None = None
    window: int | None = None
    handle: int | None = None


class FakeNccl:
    """The log and the switches of the fake library at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._dll = ctypes.CDLL(str(path))
        self._dll.fake_log_entry.restype = ctypes.c_char_p
        self._dll.fake_set_last_error.argtypes = [ctypes.c_char_p]
        self._dll.fake_fail_next.argtypes = [ctypes.c_char_p, ctypes.c_int]

    def calls(self, function: str | None = None) -> list[Call]:
        """Return every call since ``reset``, or only those of ``function``."""
        log = [_parse(self._dll.fake_log_entry(i).decode()) for i in range(self._dll.fake_log_count())]
        return [call for call in log if function in (None, call.function)]

    def reset(self) -> None:
        """Empty the log and reset every switch."""
        self._dll.fake_reset()

    def group_depth(self) -> int:
        """Return how many groups the calling thread has open."""
        return int(self._dll.fake_group_depth())

    def fail_next(self, function: str, result: int) -> None:
        """Let the next call of ``function`` do nothing and return ``result``."""
        self._dll.fake_fail_next(function.encode(), result)

    def set_last_error(self, text: str) -> None:
        """Set the text that ``ncclGetLastError`` returns."""
        self._dll.fake_set_last_error(text.encode())

    def set_null_handles(self, on: bool) -> None:
        """Let registrations, also of windows, succeed with a null handle."""
        self._dll.fake_set_null_handles(on)

    def set_log_about_buffers(self, text: str) -> None:
        """Set the message that follows each call in the log; only a fake that was built with ``-DLOG`` has a log."""
        self._dll.fake_log_about_buffers(text.encode())


def _parse(line: str) -> Call:
    function, *pairs = line.split()
    fields = dict(pair.split("=", 1) for pair in pairs)
    unique_id = bytes.fromhex(fields.pop("id")) if "id" in fields else None
    return Call(function=function, id=unique_id, **{name: int(value) for name, value in fields.items()})
