"""NCCL through ctypes. Signatures and numbers are those of nccl.h.

Each function gets its ``argtypes`` once, when the library is loaded. A call with plain ints then takes roughly 0.7 us.
A ctypes object for every argument would double this time.
"""

import ctypes
import functools
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, NoReturn, cast

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.nccl_version import version_text
from nccl_bench.errors import NcclError, SetupError, TransportError
from nccl_bench.transports.base import UNIQUE_ID_BYTES, DirectAllReduce, Transport
from nccl_bench.transports.nccl_library import NcclLibrary


class DataType(IntEnum):
    """NCCL's ``ncclDataType_t``, with torch's names."""

    INT8 = 0  # ncclInt8
    UINT8 = 1  # ncclUint8
    INT32 = 2  # ncclInt32
    UINT32 = 3  # ncclUint32
    INT64 = 4  # ncclInt64
    UINT64 = 5  # ncclUint64
    FLOAT16 = 6  # ncclFloat16
    FLOAT32 = 7  # ncclFloat32
    FLOAT64 = 8  # ncclFloat64
    BFLOAT16 = 9  # ncclBfloat16
    FLOAT8_E4M3FN = 10  # ncclFloat8e4m3, since 2.24
    FLOAT8_E5M2 = 11  # ncclFloat8e5m2, since 2.24


class ReduceOp(IntEnum):
    """NCCL's ``ncclRedOp_t``."""

    SUM = 0  # ncclSum
    PROD = 1  # ncclProd
    MAX = 2  # ncclMax
    MIN = 3  # ncclMin
    AVG = 4  # ncclAvg, since 2.10


class UniqueId(ctypes.Structure):
    """NCCL's ``ncclUniqueId``, which NCCL's functions take by value."""

    _fields_ = [("internal", ctypes.c_ubyte * UNIQUE_ID_BYTES)]


_ITEMSIZES = {DataType[name.upper()].value: dtype.itemsize for name, dtype in DTYPES.items()}

_PTR = ctypes.c_void_p
_OUT = ctypes.POINTER(ctypes.c_void_p)
_INT = ctypes.c_int
_SIZE = ctypes.c_size_t


class NcclTransport(Transport):
    """A loaded libnccl. Raises ``SetupError`` if the file is not a usable NCCL.

    A call that needs a newer library raises ``TransportError``. All-to-all never needs a newer library: without
    ``ncclAlltoAll`` it is a group of sends and receives.
    """

    name = backend = "nccl"
    logs_registration = True
    has_all_to_all: bool  # False: an all-to-all is a group of sends and receives
    dtypes: Mapping[str, int] = {name: DataType[name.upper()].value for name in DTYPES}
    redops: Mapping[RedOp, int] = {op: ReduceOp[op.name].value for op in RedOp}

    def __init__(self, library: NcclLibrary) -> None:
        self.library = library
        self.path = library.path
        self.retain = None
        self._dll = ctypes.CDLL(library.path)
        self._get_version = self._bind("ncclGetVersion", ctypes.POINTER(_INT))
        self._get_error_string = self._bind("ncclGetErrorString", _INT, restype=ctypes.c_char_p)
        self._get_last_error: Callable[[int], bytes | None] = lambda comm: None
        if hasattr(self._dll, "ncclGetLastError"):  # since NCCL 2.13
            self._get_last_error = self._bind("ncclGetLastError", _PTR, restype=ctypes.c_char_p)
        version = _INT()
        self._check("ncclGetVersion", self._get_version(version))
        self.version = version.value  # NCCL's own number, such as 22809
        # Communicator -> its world size, for the all-to-all that is made of sends and receives.
        self._world_sizes: dict[int, int] = {}

        self._get_unique_id = self._bind("ncclGetUniqueId", ctypes.POINTER(UniqueId))
        self._init_rank = self._bind("ncclCommInitRank", _OUT, _INT, UniqueId, _INT)
        self._destroy = self._bind("ncclCommDestroy", _PTR)
        self._abort = self._bind("ncclCommAbort", _PTR)
        self._all_reduce = self._bind("ncclAllReduce", _PTR, _PTR, _SIZE, _INT, _INT, _PTR, _PTR)
        # ctypes calls `errcheck` in C, which is cheaper than a Python function around the call.
        self._direct_all_reduce = cast(Any, self._dll["ncclAllReduce"])
        self._direct_all_reduce.argtypes = self._all_reduce.argtypes  # type: ignore[attr-defined]
        self._direct_all_reduce.errcheck = self._check_all_reduce
        self._all_gather = self._bind("ncclAllGather", _PTR, _PTR, _SIZE, _INT, _PTR, _PTR)
        self._reduce_scatter = self._bind("ncclReduceScatter", _PTR, _PTR, _SIZE, _INT, _INT, _PTR, _PTR)
        self._broadcast = self._bind("ncclBroadcast", _PTR, _PTR, _SIZE, _INT, _INT, _PTR, _PTR)
        self._reduce = self._bind("ncclReduce", _PTR, _PTR, _SIZE, _INT, _INT, _INT, _PTR, _PTR)
        self._send = self._bind("ncclSend", _PTR, _SIZE, _INT, _INT, _PTR, _PTR)
        self._recv = self._bind("ncclRecv", _PTR, _SIZE, _INT, _INT, _PTR, _PTR)
        self._group_start = self._bind("ncclGroupStart")
        self._group_end = self._bind("ncclGroupEnd")
        self._mem_alloc = self._bind("ncclMemAlloc", _OUT, _SIZE, since="2.19")
        self._mem_free = self._bind("ncclMemFree", _PTR, since="2.19")
        self._register = self._bind("ncclCommRegister", _PTR, _PTR, _SIZE, _OUT, since="2.19")
        self._deregister = self._bind("ncclCommDeregister", _PTR, _PTR, since="2.19")
        self._window_register = self._bind("ncclCommWindowRegister", _PTR, _PTR, _SIZE, _OUT, _INT, since="2.27")
        self._window_deregister = self._bind("ncclCommWindowDeregister", _PTR, _PTR, since="2.27")
        self._all_to_all: Callable[[int, int, int, int, int, int], int] = self._all_to_all_in_group
        self.has_all_to_all = hasattr(self._dll, "ncclAlltoAll")  # since NCCL 2.28
        if self.has_all_to_all:
            self._all_to_all = self._bind("ncclAlltoAll", _PTR, _PTR, _SIZE, _INT, _PTR, _PTR)

    def _bind(self, function: str, *argtypes: Any, restype: Any = _INT, since: str = "") -> Callable[..., Any]:
        """Return ``function`` with its argument types set.

        If this NCCL is older than ``since``, return a function that raises ``TransportError`` when it is called.
        """
        try:
            bound = getattr(self._dll, function)
        except AttributeError as error:
            if since:
                return functools.partial(self._too_old, function, since)
            raise SetupError(
                f"{self.library.path} ({self.library.source}) is not a usable libnccl: it has no {function}; "
                "name another libnccl with --nccl-library"
            ) from error
        bound.argtypes, bound.restype = argtypes, restype
        return bound  # type: ignore[no-any-return]

    def _too_old(self, function: str, since: str, *_args: object) -> NoReturn:
        raise TransportError(
            f"{function} needs NCCL {since} or later, and {self.library.path} is {version_text(self.version)}: "
            "install a newer NCCL, or name one with --nccl-library"
        )

    def _error(self, function: str, result: int, comm: int = 0) -> NcclError:
        text = self._get_error_string(result).decode(errors="replace")
        last_error = (self._get_last_error(comm) or b"").decode(errors="replace")
        return NcclError(function, result, text, last_error)

    def _check(self, function: str, result: int, comm: int = 0) -> None:
        if result:
            raise self._error(function, result, comm)

    def _check_all_reduce(self, result: int, _function: object, arguments: tuple[Any, ...]) -> int:
        if result:
            raise self._error("ncclAllReduce", result, arguments[5])
        return result

    def unique_id(self) -> bytes:
        unique_id = UniqueId()
        self._check("ncclGetUniqueId", self._get_unique_id(unique_id))
        return bytes(unique_id)

    def init_rank(self, world_size: int, unique_id: bytes, rank: int) -> int:
        assert len(unique_id) == UNIQUE_ID_BYTES, len(unique_id)
        comm = _PTR()
        by_value = UniqueId.from_buffer_copy(unique_id)
        self._check("ncclCommInitRank", self._init_rank(comm, world_size, by_value, rank))
        handle = comm.value or 0
        self._world_sizes[handle] = world_size
        return handle

    # After `destroy` and `abort` the handle is invalid, even if the call fails: NCCL can use the address again.
    def destroy(self, comm: int) -> None:
        self._world_sizes.pop(comm, None)
        self._check("ncclCommDestroy", self._destroy(comm))

    def abort(self, comm: int) -> None:
        self._world_sizes.pop(comm, None)
        self._check("ncclCommAbort", self._abort(comm))

    def all_reduce(self, send: int, recv: int, count: int, dtype: int, op: int, comm: int, stream: int) -> None:
        if result := self._all_reduce(send, recv, count, dtype, op, comm, stream):
            raise self._error("ncclAllReduce", result, comm)

    def direct_all_reduce(self, comm: int) -> tuple[DirectAllReduce, Any]:
        """Return the function of the library itself."""
        return self._direct_all_reduce, comm

    def all_gather(self, send: int, recv: int, send_count: int, dtype: int, comm: int, stream: int) -> None:
        if result := self._all_gather(send, recv, send_count, dtype, comm, stream):
            raise self._error("ncclAllGather", result, comm)

    def reduce_scatter(
        self, send: int, recv: int, recv_count: int, dtype: int, op: int, comm: int, stream: int
    ) -> None:
        if result := self._reduce_scatter(send, recv, recv_count, dtype, op, comm, stream):
            raise self._error("ncclReduceScatter", result, comm)

    def all_to_all(self, send: int, recv: int, count: int, dtype: int, comm: int, stream: int) -> None:
        if result := self._all_to_all(send, recv, count, dtype, comm, stream):
            raise self._error("ncclAlltoAll", result, comm)

    def _all_to_all_in_group(self, send: int, recv: int, count: int, dtype: int, comm: int, stream: int) -> int:
        """Do what ``ncclAlltoAll`` does, for NCCL before 2.28. Return 0 (success): a failed call raises an error."""
        block_bytes = count * _ITEMSIZES[dtype]
        with self.group():
            for peer in range(self._world_sizes[comm]):
                self.send(send + peer * block_bytes, count, dtype, peer, comm, stream)
                self.recv(recv + peer * block_bytes, count, dtype, peer, comm, stream)
        return 0

    def broadcast(self, send: int, recv: int, count: int, dtype: int, root: int, comm: int, stream: int) -> None:
        if result := self._broadcast(send, recv, count, dtype, root, comm, stream):
            raise self._error("ncclBroadcast", result, comm)

    def reduce(self, send: int, recv: int, count: int, dtype: int, op: int, root: int, comm: int, stream: int) -> None:
        if result := self._reduce(send, recv, count, dtype, op, root, comm, stream):
            raise self._error("ncclReduce", result, comm)

    def send(self, buffer: int, count: int, dtype: int, peer: int, comm: int, stream: int) -> None:
        if result := self._send(buffer, count, dtype, peer, comm, stream):
            raise self._error("ncclSend", result, comm)

    def recv(self, buffer: int, count: int, dtype: int, peer: int, comm: int, stream: int) -> None:
        if result := self._recv(buffer, count, dtype, peer, comm, stream):
            raise self._error("ncclRecv", result, comm)

    def group_start(self) -> None:
        if result := self._group_start():
            raise self._error("ncclGroupStart", result)

    def group_end(self) -> None:
        if result := self._group_end():
            raise self._error("ncclGroupEnd", result)

    def mem_alloc(self, size: int) -> int:
        ptr = _PTR()
        self._check("ncclMemAlloc", self._mem_alloc(ptr, size))
        return ptr.value or 0

    def mem_free(self, ptr: int) -> None:
        self._check("ncclMemFree", self._mem_free(ptr))

    def register(self, comm: int, ptr: int, size: int) -> int:
        handle = _PTR()
        self._check("ncclCommRegister", self._register(comm, ptr, size, handle), comm)
        return handle.value or 0  # the handle is NULL with NCCL_LOCAL_REGISTER=0

    def deregister(self, comm: int, handle: int) -> None:
        self._check("ncclCommDeregister", self._deregister(comm, handle), comm)

    def window_register(self, comm: int, ptr: int, size: int, flags: int = 0) -> int | None:
        window = _PTR()
        self._check("ncclCommWindowRegister", self._window_register(comm, ptr, size, window, flags), comm)
        return window.value  # ctypes gives None for NULL, which means that windows are unavailable

    def window_deregister(self, comm: int, window: int) -> None:
        self._check("ncclCommWindowDeregister", self._window_deregister(comm, window), comm)

    def describe(self) -> dict[str, object]:
        return {
            "name": self.name,
            "path": self.library.path,
            "version": version_text(self.version),
            "source": self.library.source.value,
        }
