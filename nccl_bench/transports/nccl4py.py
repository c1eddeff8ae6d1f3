"""NCCL through NVIDIA's package nccl4py: the same calls as in ``transports/nccl.py``, by another binding.

``nccl.core`` makes the communicators. Timed calls go to the Cython functions of ``nccl.bindings.nccl``. These functions
take plain ints and a private object of nccl4py (the communicator), so nccl4py is pinned.

nccl4py searches for libnccl.so.2 with cuda-pathfinder: in the process, then in the wheel in site-packages, then in the
system. If torch has loaded a libnccl, only ``LD_PRELOAD`` makes nccl4py use another one.
"""

import ctypes
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.extras import EXTRA_VERSIONS, installed_version
from nccl_bench.catalog.nccl_version import version_text
from nccl_bench.errors import InvalidArgumentError, NcclBenchError, NcclError, SetupError, TransportError
from nccl_bench.transports.base import UNIQUE_ID_BYTES, DirectAllReduce, Transport, end_group_after
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl_library import NcclLibrary

VERSION = EXTRA_VERSIONS["nccl4py"]
_INSTALL = f"pip install nccl4py=={VERSION}"


class Nccl4py:
    """The modules of nccl4py. ``error`` translates the exceptions of nccl4py into ours.

    Raises ``SetupError`` unless ``VERSION`` of nccl4py is installed and can be imported. The import needs no GPU
    and no libnccl.
    """

    def __init__(self) -> None:
        installed = installed_version("nccl4py")
        if installed is None:
            raise SetupError(f"nccl4py {VERSION} is not installed: {_INSTALL}")
        if installed != VERSION:
            raise SetupError(f"nccl4py {installed} is installed, and nccl-bench needs exactly {VERSION}: {_INSTALL}")
        try:
            self.core: Any = import_module("nccl.core")
            self.bindings: Any = import_module("nccl.bindings.nccl")
            self._missing: Any = import_module("nccl.bindings._internal.utils").FunctionNotFoundError
        except ImportError as error:
            # nccl4py imports cuda-bindings, but does not list this package as a dependency.
            raise SetupError(
                f"nccl4py {VERSION} cannot be imported ({error}): {_INSTALL}, and a CUDA build of torch"
            ) from error
        self.failures = (self.bindings.NCCLError, self.core.NcclInvalid, self._missing)

    def path(self) -> str:
        """Return the path of the libnccl that nccl4py uses. The first call of nccl4py chooses the file."""
        return str(self.bindings.get_library_path())

    def error(self, function: str, error: Any) -> NcclBenchError:
        """Return our exception for ``error``, which ``function`` raised. The class of ``error`` is in ``failures``."""
        if isinstance(error, self.core.NcclInvalid):
            return InvalidArgumentError(f"nccl4py refused {function}: {error}")
        if isinstance(error, self._missing):
            version = version_text(self.bindings.get_version())
            return TransportError(f"nccl4py: {error} in {self.path()}, which is NCCL {version}: install a newer NCCL")
        last_error = self.bindings.get_last_error(self.bindings.Comm(0))  # NCCL ignores the communicator
        return NcclError(function, error.status, self.bindings.get_error_string(error.status), last_error)


class Nccl4pyTransport(Transport):
    """The libnccl that nccl4py chooses and ``describe`` names: one that is already loaded, otherwise ``library``.

    Raises ``SetupError`` if nccl4py is missing, has another version or finds no libnccl. A call that needs a newer
    library raises ``TransportError``: a new communicator needs NCCL 2.23, all-to-all needs 2.28.
    """

    name, backend = "nccl4py", NcclTransport.backend
    logs_registration = True
    dtypes: Mapping[str, int] = NcclTransport.dtypes
    redops: Mapping[RedOp, int] = NcclTransport.redops

    def __init__(self, library: NcclLibrary) -> None:
        self.library = library
        self.retain = None
        nccl4py = Nccl4py()
        self._core, self._bindings = nccl4py.core, nccl4py.bindings
        self.failures, self._error, self._path = nccl4py.failures, nccl4py.error, nccl4py.path
        ctypes.CDLL(library.path)  # nccl4py chooses a library that is loaded already
        try:
            self.version = self._bindings.get_version()  # NCCL's own number, such as 22809
        except RuntimeError as error:  # cuda-pathfinder and nccl4py raise this error if they find no library
            reason = " ".join(str(error).split())
            raise SetupError(f"nccl4py finds no libnccl ({reason}): name a libnccl.so.2 with --nccl-library") from error
        # The handle that callers use -> nccl4py's object of the communicator.
        self._comms: dict[int, Any] = {}

        self._all_reduce = self._bindings.all_reduce
        self._all_gather = self._bindings.all_gather
        self._reduce_scatter = self._bindings.reduce_scatter
        self._all_to_all = self._bindings.allto_all
        self._broadcast = self._bindings.broadcast
        self._reduce = self._bindings.reduce
        self._send = self._bindings.send
        self._recv = self._bindings.recv
        self._group_start = self._bindings.group_start
        self._group_end = self._bindings.group_end

    def _call(self, function: str, bound: Callable[..., Any], *args: Any) -> Any:
        try:
            return bound(*args)
        except self.failures as error:
            raise self.translated(function, error) from error

    def _keep(self, comm: Any) -> int:
        handle = int(comm)
        if handle:
            self._comms[handle] = comm
        return handle

    def translated(self, function: str, failure: Exception) -> NcclBenchError:
        return self._error(function, failure)

    def unique_id(self) -> bytes:
        return bytes(self._call("ncclGetUniqueId", self._core.get_unique_id))

    def init_rank(self, world_size: int, unique_id: bytes, rank: int) -> int:
        assert len(unique_id) == UNIQUE_ID_BYTES, len(unique_id)
        wrapped = self._core.UniqueId.from_bytes(unique_id)
        communicator = self._call("ncclCommInitRankScalable", self._core.Communicator.init, world_size, rank, wrapped)
        return self._keep(communicator._comm)

    # After `destroy` and `abort` the handle is invalid, even if the call fails: NCCL can use the address again.
    def destroy(self, comm: int) -> None:
        self._call("ncclCommDestroy", self._bindings.comm_destroy, self._comms.pop(comm))

    def abort(self, comm: int) -> None:
        self._call("ncclCommAbort", self._bindings.comm_abort, self._comms.pop(comm))

    def all_reduce(self, send: int, recv: int, count: int, dtype: int, op: int, comm: int, stream: int) -> None:
        try:
            self._all_reduce(send, recv, count, dtype, op, self._comms[comm], stream)
        except self.failures as error:
            raise self.translated("ncclAllReduce", error) from error

    def direct_all_reduce(self, comm: int) -> tuple[DirectAllReduce, Any]:
        """Return nccl4py's function itself, and nccl4py's object for ``comm``."""
        return self._all_reduce, self._comms[comm]

    def all_gather(self, send: int, recv: int, send_count: int, dtype: int, comm: int, stream: int) -> None:
        try:
            self._all_gather(send, recv, send_count, dtype, self._comms[comm], stream)
        except self.failures as error:
            raise self.translated("ncclAllGather", error) from error

    def reduce_scatter(
        self, send: int, recv: int, recv_count: int, dtype: int, op: int, comm: int, stream: int
    ) -> None:
        try:
            self._reduce_scatter(send, recv, recv_count, dtype, op, self._comms[comm], stream)
        except self.failures as error:
            raise self.translated("ncclReduceScatter", error) from error

    def all_to_all(self, send: int, recv: int, count: int, dtype: int, comm: int, stream: int) -> None:
        try:
            self._all_to_all(send, recv, count, dtype, self._comms[comm], stream)
        except self.failures as error:
            raise self.translated("ncclAlltoAll", error) from error

    def broadcast(self, send: int, recv: int, count: int, dtype: int, root: int, comm: int, stream: int) -> None:
        try:
            self._broadcast(send, recv, count, dtype, root, self._comms[comm], stream)
        except self.failures as error:
            raise self.translated("ncclBroadcast", error) from error

    def reduce(self, send: int, recv: int, count: int, dtype: int, op: int, root: int, comm: int, stream: int) -> None:
        try:
            self._reduce(send, recv, count, dtype, op, root, self._comms[comm], stream)
        except self.failures as error:
            raise self.translated("ncclReduce", error) from error

    def send(self, buffer: int, count: int, dtype: int, peer: int, comm: int, stream: int) -> None:
        try:
            self._send(buffer, count, dtype, peer, self._comms[comm], stream)
        except self.failures as error:
            raise self.translated("ncclSend", error) from error

    def recv(self, buffer: int, count: int, dtype: int, peer: int, comm: int, stream: int) -> None:
        try:
            self._recv(buffer, count, dtype, peer, self._comms[comm], stream)
        except self.failures as error:
            raise self.translated("ncclRecv", error) from error

    def send_recv(
        self,
        send: int,
        send_count: int,
        send_dtype: int,
        dst: int,
        recv: int,
        recv_count: int,
        recv_dtype: int,
        src: int,
        comm: int,
        stream: int,
    ) -> None:
        # The four functions in one Python call take half the time of `group`, `send` and `recv`.
        handle = self._comms[comm]
        function = "ncclGroupStart"
        try:
            self._group_start()
            function = "ncclSend"
            self._send(send, send_count, send_dtype, dst, handle, stream)
            function = "ncclRecv"
            self._recv(recv, recv_count, recv_dtype, src, handle, stream)
            function = "ncclGroupEnd"
            self._group_end()
        except BaseException as error:
            raised = self.translated(function, error) if isinstance(error, self.failures) else error
            if function in ("ncclSend", "ncclRecv"):
                end_group_after(self, raised)
            if raised is error:
                raise
            raise raised from error

    def group_start(self) -> None:
        try:
            self._group_start()
        except self.failures as error:
            raise self.translated("ncclGroupStart", error) from error

    def group_end(self) -> None:
        try:
            self._group_end()
        except self.failures as error:
            raise self.translated("ncclGroupEnd", error) from error

    def mem_alloc(self, size: int) -> int:
        ptr: int = self._call("ncclMemAlloc", self._bindings.mem_alloc, size)
        return ptr

    def mem_free(self, ptr: int) -> None:
        self._call("ncclMemFree", self._bindings.mem_free, ptr)

    def register(self, comm: int, ptr: int, size: int) -> int:
        handle: int = self._call("ncclCommRegister", self._bindings.comm_register, self._comms[comm], ptr, size)
        return handle

    def deregister(self, comm: int, handle: int) -> None:
        self._call("ncclCommDeregister", self._bindings.comm_deregister, self._comms[comm], handle)

    def window_register(self, comm: int, ptr: int, size: int, flags: int = 0) -> int | None:
        register = self._bindings.comm_window_register
        window = self._call("ncclCommWindowRegister", register, self._comms[comm], ptr, size, flags)
        return int(window) or None  # nccl4py gives 0 for NULL, which means that windows are unavailable

    def window_deregister(self, comm: int, window: int) -> None:
        deregister = self._bindings.comm_window_deregister
        self._call("ncclCommWindowDeregister", deregister, self._comms[comm], self._bindings.Window(window))

    def describe(self) -> dict[str, object]:
        return {
            "name": self.name,
            "path": self._path(),
            "version": version_text(self.version),
            "source": f"nccl4py {VERSION}",
        }
