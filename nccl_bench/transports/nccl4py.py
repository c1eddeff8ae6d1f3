"""NCCL through NVIDIA's package nccl4py: the collectives of ``transports/nccl.py``, called by another binding.

Timed calls go to the Cython functions of ``nccl.bindings.nccl``, which take a tenth of the time of ctypes. They take
plain ints and a private object of nccl4py (the communicator), so nccl4py is pinned. Everything else goes through
ctypes, so nccl4py must use the same libnccl.

nccl4py searches for libnccl.so.2 with cuda-pathfinder: in the process, then in the wheel in site-packages, then in the
system. If torch has loaded a libnccl, only ``LD_PRELOAD`` makes nccl4py use another one.
"""

import os
from importlib import import_module
from typing import Any

from nccl_bench.catalog.extras import EXTRA_VERSIONS, installed_version
from nccl_bench.catalog.nccl_version import version_text
from nccl_bench.errors import NcclBenchError, NcclError, SetupError, TransportError
from nccl_bench.transports.base import DirectAllReduce, end_group_after
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl_library import NcclLibrary

VERSION = EXTRA_VERSIONS["nccl4py"]
_INSTALL = f"pip install nccl4py=={VERSION}"


class Nccl4pyBindings:
    """The low-level modules of nccl4py. ``error`` translates their exceptions into ours.

    Raises ``SetupError`` unless ``VERSION`` of nccl4py is installed and can be imported. The import needs no GPU
    and no libnccl.
    """

    def __init__(self) -> None:
        installed = installed_version("nccl4py")
        if installed is None:
            raise SetupError(f"nccl4py {VERSION} is not installed: {_INSTALL}")
        if installed != VERSION:
            raise SetupError(f"nccl4py {installed} is installed, and nccl-bench needs exactly {VERSION}: {_INSTALL}")
        self.bindings: Any = import_nccl4py("nccl.bindings.nccl")
        self._missing: Any = import_nccl4py("nccl.bindings._internal.utils").FunctionNotFoundError
        self.failures: tuple[type[Exception], ...] = (self.bindings.NCCLError, self._missing)

    def path(self) -> str:
        """Return the path of the libnccl that nccl4py uses. The first call of nccl4py chooses the file.

        Raises ``SetupError`` if nccl4py finds no libnccl.
        """
        try:
            return str(self.bindings.get_library_path())
        except RuntimeError as error:  # cuda-pathfinder and nccl4py raise this error
            reason = " ".join(str(error).split())
            raise SetupError(f"nccl4py finds no libnccl ({reason}): name a libnccl.so.2 with --nccl-library") from error

    def error(self, function: str, error: Any) -> NcclBenchError:
        """Return our exception for ``error``, which ``function`` raised. Its class is in ``failures``."""
        if isinstance(error, self._missing):
            version = version_text(self.bindings.get_version())
            return TransportError(f"nccl4py: {error} in {self.path()}, which is NCCL {version}: install a newer NCCL")
        last_error = self.bindings.get_last_error(self.bindings.Comm(0))  # NCCL ignores the communicator
        return NcclError(function, error.status, self.bindings.get_error_string(error.status), last_error)


def import_nccl4py(module: str) -> Any:
    """Return a module of nccl4py. Raise ``SetupError`` if it cannot be imported."""
    try:
        return import_module(module)
    except ImportError as error:
        # nccl4py imports cuda-bindings, but does not list this package as a dependency.
        raise SetupError(
            f"nccl4py {VERSION} cannot be imported ({error}): {_INSTALL}, and a CUDA build of torch"
        ) from error


class Nccl4pyTransport(NcclTransport):
    """A loaded libnccl whose collectives are called through nccl4py.

    Raises ``SetupError`` if nccl4py is missing, has another version, or uses another libnccl than ``library``.
    """

    name = "nccl4py"

    def __init__(self, library: NcclLibrary) -> None:
        super().__init__(library)
        nccl4py = Nccl4pyBindings()
        chosen = nccl4py.path()
        if os.path.realpath(chosen) != os.path.realpath(library.path):
            raise SetupError(
                f"nccl4py uses {chosen}, the first libnccl of the process, and the other calls use {library.path}: "
                "call NCCL by ctypes (--transport nccl), or choose the libnccl for an arm (--arm NAME=ARM,library=PATH)"
            )
        self.failures = nccl4py.failures
        self._nccl4py = nccl4py
        # The handle that callers use -> nccl4py's object of the communicator.
        self._comms: dict[int, Any] = {}
        self._bindings = nccl4py.bindings

    def translated(self, function: str, failure: Exception) -> NcclBenchError:
        return self._nccl4py.error(function, failure)

    def init_rank(self, world_size: int, unique_id: bytes, rank: int) -> int:
        handle = super().init_rank(world_size, unique_id, rank)
        self._comms[handle] = self._bindings.Comm(handle)
        return handle

    def destroy(self, comm: int) -> None:
        del self._comms[comm]
        super().destroy(comm)

    def abort(self, comm: int) -> None:
        del self._comms[comm]
        super().abort(comm)

    def direct_all_reduce(self, comm: int) -> tuple[DirectAllReduce, Any]:
        """Return nccl4py's function itself, and nccl4py's object for ``comm``."""
        return self._bindings.all_reduce, self._comms[comm]

    def all_reduce(self, send: int, recv: int, count: int, dtype: int, op: int, comm: int, stream: int) -> None:
        try:
            self._bindings.all_reduce(send, recv, count, dtype, op, self._comms[comm], stream)
        except self.failures as error:
            raise self.translated("ncclAllReduce", error) from error

    def all_gather(self, send: int, recv: int, send_count: int, dtype: int, comm: int, stream: int) -> None:
        try:
            self._bindings.all_gather(send, recv, send_count, dtype, self._comms[comm], stream)
        except self.failures as error:
            raise self.translated("ncclAllGather", error) from error

    def reduce_scatter(
        self, send: int, recv: int, recv_count: int, dtype: int, op: int, comm: int, stream: int
    ) -> None:
        try:
            self._bindings.reduce_scatter(send, recv, recv_count, dtype, op, self._comms[comm], stream)
        except self.failures as error:
            raise self.translated("ncclReduceScatter", error) from error

    def all_to_all(self, send: int, recv: int, count: int, dtype: int, comm: int, stream: int) -> None:
        if not self.has_all_to_all:
            super().all_to_all(send, recv, count, dtype, comm, stream)
            return
        try:
            self._bindings.allto_all(send, recv, count, dtype, self._comms[comm], stream)
        except self.failures as error:
            raise self.translated("ncclAlltoAll", error) from error

    def broadcast(self, send: int, recv: int, count: int, dtype: int, root: int, comm: int, stream: int) -> None:
        try:
            self._bindings.broadcast(send, recv, count, dtype, root, self._comms[comm], stream)
        except self.failures as error:
            raise self.translated("ncclBroadcast", error) from error

    def reduce(self, send: int, recv: int, count: int, dtype: int, op: int, root: int, comm: int, stream: int) -> None:
        try:
            self._bindings.reduce(send, recv, count, dtype, op, root, self._comms[comm], stream)
        except self.failures as error:
            raise self.translated("ncclReduce", error) from error

    def send(self, buffer: int, count: int, dtype: int, peer: int, comm: int, stream: int) -> None:
        try:
            self._bindings.send(buffer, count, dtype, peer, self._comms[comm], stream)
        except self.failures as error:
            raise self.translated("ncclSend", error) from error

    def recv(self, buffer: int, count: int, dtype: int, peer: int, comm: int, stream: int) -> None:
        try:
            self._bindings.recv(buffer, count, dtype, peer, self._comms[comm], stream)
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
        # These direct calls take half the time of `group`, `send` and `recv`, which are Python methods.
        handle = self._comms[comm]
        function = "ncclGroupStart"
        try:
            self._bindings.group_start()
            function = "ncclSend"
            self._bindings.send(send, send_count, send_dtype, dst, handle, stream)
            function = "ncclRecv"
            self._bindings.recv(recv, recv_count, recv_dtype, src, handle, stream)
            function = "ncclGroupEnd"
            self._bindings.group_end()
        except BaseException as error:
            raised = self.translated(function, error) if isinstance(error, self.failures) else error
            if function in ("ncclSend", "ncclRecv"):
                end_group_after(self, raised)
            if raised is error:
                raise
            raise raised from error

    def group_start(self) -> None:
        try:
            self._bindings.group_start()
        except self.failures as error:
            raise self.translated("ncclGroupStart", error) from error

    def group_end(self) -> None:
        try:
            self._bindings.group_end()
        except self.failures as error:
            raise self.translated("ncclGroupEnd", error) from error
