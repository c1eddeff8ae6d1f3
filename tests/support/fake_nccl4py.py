"""A fake of nccl4py 0.6.0: its modules, names and signatures, over a libnccl that the test names.

Streams are the CPU's streams, and buffers are torch tensors. As in nccl4py, a communicator or a window is an object and
not an int.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nccl_bench.transports.nccl import DataType, UniqueId
from nccl_bench.transports.nccl4py import VERSION


class NCCLError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"nccl4py's own message ({status})")
        self.status = status


class NcclInvalid(Exception):  # noqa: N818
    pass


class FunctionNotFoundError(RuntimeError):
    pass


class Handle:
    def __init__(self, handle: int = 0) -> None:
        self.handle = handle

    def __int__(self) -> int:
        return self.handle


class Comm(Handle):
    pass


class Window(Handle):
    pass


class NcclRedOp(IntEnum):
    SUM = 0
    PROD = 1
    MAX = 2
    MIN = 3
    AVG = 4


class Bindings(ModuleType):
    """The module ``nccl.bindings.nccl``."""

    def __init__(self, path: Path) -> None:
        super().__init__("nccl.bindings.nccl")
        self.NCCLError, self.Comm, self.Window = NCCLError, Comm, Window
        self._path = path
        self._dll = ctypes.CDLL(str(path))

    def _call(self, function: str, *args: Any) -> None:
        try:
            bound = getattr(self._dll, function)
        except AttributeError:
            raise FunctionNotFoundError(f"function {function} is not found") from None
        # Every integer and pointer is passed as 64 bits; the callee reads what it needs.
        if status := bound(*(ctypes.c_ssize_t(arg) if isinstance(arg, int) else arg for arg in args)):
            raise NCCLError(status)

    def get_library_path(self) -> str:
        return str(self._path)

    def get_version(self) -> int:
        version = ctypes.c_int()
        self._call("ncclGetVersion", ctypes.byref(version))
        return version.value

    def get_error_string(self, result: int) -> str:
        self._dll.ncclGetErrorString.restype = ctypes.c_char_p
        text: bytes = self._dll.ncclGetErrorString(result)
        return text.decode()

    def get_last_error(self, comm: Any) -> str:
        self._dll.ncclGetLastError.restype = ctypes.c_char_p
        text: bytes = self._dll.ncclGetLastError(ctypes.c_ssize_t(_of(comm, Comm)))
        return text.decode()

    def get_unique_id(self) -> UniqueId:
        unique_id = UniqueId()
        self._call("ncclGetUniqueId", ctypes.byref(unique_id))
        return unique_id

    def comm_init_rank_scalable(self, nranks: int, myrank: int, n_id: int, comm_ids: bytes, config: int) -> Comm:
        comm = ctypes.c_void_p()
        ids = (ctypes.c_ubyte * len(comm_ids)).from_buffer_copy(comm_ids)
        self._call("ncclCommInitRankScalable", ctypes.byref(comm), nranks, myrank, n_id, ids, config)
        return Comm(comm.value or 0)

    def comm_count(self, comm: Any) -> int:
        count = ctypes.c_int()
        self._call("ncclCommCount", _of(comm, Comm), ctypes.byref(count))
        return count.value

    def comm_user_rank(self, comm: Any) -> int:
        rank = ctypes.c_int()
        self._call("ncclCommUserRank", _of(comm, Comm), ctypes.byref(rank))
        return rank.value

    def comm_destroy(self, comm: Any) -> None:
        self._call("ncclCommDestroy", _of(comm, Comm))

    def comm_abort(self, comm: Any) -> None:
        self._call("ncclCommAbort", _of(comm, Comm))

    def comm_register(self, comm: Any, buff: int, size: int) -> int:
        handle = ctypes.c_void_p()
        self._call("ncclCommRegister", _of(comm, Comm), buff, size, ctypes.byref(handle))
        return handle.value or 0

    def comm_deregister(self, comm: Any, handle: int) -> None:
        self._call("ncclCommDeregister", _of(comm, Comm), handle)

    def comm_window_register(self, comm: Any, buff: int, size: int, win_flags: int) -> Window:
        window = ctypes.c_void_p()
        self._call("ncclCommWindowRegister", _of(comm, Comm), buff, size, ctypes.byref(window), win_flags)
        return Window(window.value or 0)

    def comm_window_deregister(self, comm: Any, win: Any) -> None:
        self._call("ncclCommWindowDeregister", _of(comm, Comm), _of(win, Window))

    def mem_alloc(self, size: int) -> int:
        ptr = ctypes.c_void_p()
        self._call("ncclMemAlloc", ctypes.byref(ptr), size)
        return ptr.value or 0

    def mem_free(self, ptr: int) -> None:
        self._call("ncclMemFree", ptr)

    def group_start(self) -> None:
        self._call("ncclGroupStart")

    def group_end(self) -> None:
        self._call("ncclGroupEnd")

    def all_reduce(
        self, sendbuff: int, recvbuff: int, count: int, datatype: int, op: int, comm: Any, stream: int
    ) -> None:
        self._call("ncclAllReduce", sendbuff, recvbuff, count, datatype, op, _of(comm, Comm), stream)

    def all_gather(self, sendbuff: int, recvbuff: int, sendcount: int, datatype: int, comm: Any, stream: int) -> None:
        self._call("ncclAllGather", sendbuff, recvbuff, sendcount, datatype, _of(comm, Comm), stream)

    def reduce_scatter(
        self, sendbuff: int, recvbuff: int, recvcount: int, datatype: int, op: int, comm: Any, stream: int
    ) -> None:
        self._call("ncclReduceScatter", sendbuff, recvbuff, recvcount, datatype, op, _of(comm, Comm), stream)

    def allto_all(self, sendbuff: int, recvbuff: int, count: int, datatype: int, comm: Any, stream: int) -> None:
        self._call("ncclAlltoAll", sendbuff, recvbuff, count, datatype, _of(comm, Comm), stream)

    def broadcast(
        self, sendbuff: int, recvbuff: int, count: int, datatype: int, root: int, comm: Any, stream: int
    ) -> None:
        self._call("ncclBroadcast", sendbuff, recvbuff, count, datatype, root, _of(comm, Comm), stream)

    def reduce(
        self, sendbuff: int, recvbuff: int, count: int, datatype: int, op: int, root: int, comm: Any, stream: int
    ) -> None:
        self._call("ncclReduce", sendbuff, recvbuff, count, datatype, op, root, _of(comm, Comm), stream)

    def send(self, sendbuff: int, count: int, datatype: int, peer: int, comm: Any, stream: int) -> None:
        self._call("ncclSend", sendbuff, count, datatype, peer, _of(comm, Comm), stream)

    def recv(self, recvbuff: int, count: int, datatype: int, peer: int, comm: Any, stream: int) -> None:
        self._call("ncclRecv", recvbuff, count, datatype, peer, _of(comm, Comm), stream)


def _of(wrapped: Any, kind: type[Handle]) -> int:
    if not isinstance(wrapped, kind):
        raise TypeError(f"Cannot convert {type(wrapped).__name__} to nccl.bindings.nccl.{kind.__name__}")
    return wrapped.handle


def core(bindings: Bindings) -> ModuleType:
    """Return the module ``nccl.core``."""

    class WrappedId:
        def __init__(self, unique_id: UniqueId) -> None:
            self._internal = unique_id

        def __bytes__(self) -> bytes:
            return bytes(self._internal)

        @staticmethod
        def from_bytes(b: bytes) -> WrappedId:
            return WrappedId(UniqueId.from_buffer_copy(b))

    class Communicator:
        nranks, rank = 1, 0

        def __init__(self, ptr: int | None = None) -> None:
            self._comm = Comm(ptr or 0)

        @classmethod
        def init(cls, nranks: int, rank: int, unique_id: WrappedId, config: None = None) -> Communicator:
            made = cls()
            made._comm = bindings.comm_init_rank_scalable(nranks, rank, 1, bytes(unique_id), 0)
            made.nranks, made.rank = nranks, rank
            return made

        def allreduce(self, sendbuf: Any, recvbuf: Any, op: int, *, stream: Any = None, config: None = None) -> None:
            self.reduce(sendbuf, recvbuf, op, stream=stream)

        def reduce(
            self,
            sendbuf: Any,
            recvbuf: Any,
            op: int,
            root: int | None = None,
            *,
            stream: Any = None,
            config: None = None,
        ) -> None:
            s, count, dtype = _buffer(sendbuf)
            r = _matching(recvbuf, count, dtype) if root in (None, self.rank) else 0
            if root is None:
                bindings.all_reduce(s, r, count, dtype, op, self._comm, _stream(stream))
            else:
                bindings.reduce(s, r, count, dtype, op, root, self._comm, _stream(stream))

        def broadcast(self, sendbuf: Any, recvbuf: Any, root: int, *, stream: Any = None, config: None = None) -> None:
            r, count, dtype = _buffer(recvbuf)
            s = _matching(sendbuf, count, dtype) if root == self.rank else 0
            bindings.broadcast(s, r, count, dtype, root, self._comm, _stream(stream))

        def allgather(self, sendbuf: Any, recvbuf: Any, *, stream: Any = None, config: None = None) -> None:
            s, count, dtype = _buffer(sendbuf)
            r = _matching(recvbuf, count * self.nranks, dtype)
            bindings.all_gather(s, r, count, dtype, self._comm, _stream(stream))

        def reduce_scatter(
            self, sendbuf: Any, recvbuf: Any, op: int, *, stream: Any = None, config: None = None
        ) -> None:
            s, count, dtype = _buffer(sendbuf)
            r = _matching(recvbuf, count // self.nranks, dtype)
            bindings.reduce_scatter(s, r, count // self.nranks, dtype, op, self._comm, _stream(stream))

        def alltoall(self, sendbuf: Any, recvbuf: Any, *, stream: Any = None, config: None = None) -> None:
            s, count, dtype = _buffer(sendbuf)
            r = _matching(recvbuf, count, dtype)
            bindings.allto_all(s, r, count // self.nranks, dtype, self._comm, _stream(stream))

        def send(self, sendbuf: Any, peer: int, *, stream: Any = None) -> None:
            bindings.send(*_buffer(sendbuf), peer, self._comm, _stream(stream))

        def recv(self, recvbuf: Any, peer: int, *, stream: Any = None) -> None:
            bindings.recv(*_buffer(recvbuf), peer, self._comm, _stream(stream))

        def destroy(self) -> None:
            bindings.comm_destroy(self._comm)

        def abort(self) -> None:
            bindings.comm_abort(self._comm)

    @contextmanager
    def group() -> Iterator[None]:
        bindings.group_start()
        try:
            yield
        finally:
            bindings.group_end()

    get_unique_id: Callable[[], WrappedId] = lambda: WrappedId(bindings.get_unique_id())  # noqa: E731
    return _module(
        "nccl.core",
        Communicator=Communicator,
        NcclInvalid=NcclInvalid,
        NcclRedOp=NcclRedOp,
        UniqueId=WrappedId,
        get_unique_id=get_unique_id,
        group=group,
    )


def _buffer(tensor: Any) -> tuple[int, int, int]:
    return tensor.data_ptr(), tensor.numel(), DataType[str(tensor.dtype).removeprefix("torch.").upper()]


def _matching(tensor: Any, count: int, dtype: int) -> int:
    pointer, got, got_dtype = _buffer(tensor)
    if (got, got_dtype) != (count, dtype):
        raise NcclInvalid(f"Buffer count mismatch: recvbuf must have at least {count} elements, got {got}")
    return pointer


def _stream(stream: Any) -> int:
    return 0 if stream is None else int(stream.handle)


def _module(name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


def install(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Make ``import nccl`` import the fake, over the libnccl at ``path``."""
    bindings = Bindings(path)
    modules = {
        "nccl": _module("nccl", __path__=[]),
        "nccl.core": core(bindings),
        "nccl.bindings": _module("nccl.bindings", __path__=[]),
        "nccl.bindings.nccl": bindings,
        "nccl.bindings._internal": _module("nccl.bindings._internal", __path__=[]),
        "nccl.bindings._internal.utils": _module(
            "nccl.bindings._internal.utils", FunctionNotFoundError=FunctionNotFoundError
        ),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    pretend_version(monkeypatch, VERSION)


def pretend_version(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    """Make nccl4py look installed in ``version``, or not installed if it is ``None``."""

    def answer(name: str) -> str:
        assert name == "nccl4py"
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", answer)
