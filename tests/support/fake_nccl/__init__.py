"""A libnccl for tests: compiled on the spot, loaded like the real one, and it tells what was called.

ProcessSet size 1 really moves the bytes (host memory). With more ranks nothing is moved, so any integer will do as a
pointer; communicators are always the fake's own.
"""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("fake_nccl.c")


def build(directory: Path, *flags: str) -> Path:
    """Compile the fake to ``directory/libnccl.so.2``; ``-DOLD`` makes it NCCL 2.12.12."""
    library = directory / "libnccl.so.2"
    soname = f"-Wl,-soname,{library.name}"
    command = ["cc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", soname, *flags, str(_SOURCE)]
    subprocess.run([*command, "-o", str(library)], check=True)
    return library


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that reached the library. ``depth`` is the group depth at its entry; absent arguments are ``None``."""

    function: str
    depth: int
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
    """The other side of a fake library at ``path``: its log and its switches."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._dll = ctypes.CDLL(str(path))
        self._dll.fake_log_entry.restype = ctypes.c_char_p
        self._dll.fake_set_last_error.argtypes = [ctypes.c_char_p]
        self._dll.fake_fail_next.argtypes = [ctypes.c_char_p, ctypes.c_int]

    def calls(self, function: str | None = None) -> list[Call]:
        """Every call since ``reset``, or those of one function."""
        log = [_parse(self._dll.fake_log_entry(i).decode()) for i in range(self._dll.fake_log_count())]
        return [call for call in log if function in (None, call.function)]

    def reset(self) -> None:
        """Empty the log and put every switch back."""
        self._dll.fake_reset()

    def group_depth(self) -> int:
        """How many groups the calling thread has open."""
        return int(self._dll.fake_group_depth())

    def fail_next(self, function: str, result: int) -> None:
        """Let the next call of ``function`` do nothing and return ``result``."""
        self._dll.fake_fail_next(function.encode(), result)

    def set_last_error(self, text: str) -> None:
        """What ``ncclGetLastError`` answers."""
        self._dll.fake_set_last_error(text.encode())

    def set_async_error(self, result: int) -> None:
        """What ``ncclCommGetAsyncError`` reports from now on."""
        self._dll.fake_set_async_error(result)

    def set_null_handles(self, on: bool) -> None:
        """Whether registrations, of windows too, succeed with a null handle."""
        self._dll.fake_set_null_handles(on)


def _parse(line: str) -> Call:
    function, *pairs = line.split()
    fields = dict(pair.split("=", 1) for pair in pairs)
    unique_id = bytes.fromhex(fields.pop("id")) if "id" in fields else None
    return Call(function=function, id=unique_id, **{name: int(value) for name, value in fields.items()})
