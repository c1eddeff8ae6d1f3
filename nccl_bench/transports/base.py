"""The protocol of transports. A transport runs a collective through libnccl or Gloo, on a given stream.

Every argument of a timed call is a plain int: a pointer, a count, the handle of a communicator or a stream, or the
library's number of a data type or a reduction. Callers look up the numbers of data types and reductions once, in
``dtypes`` and ``redops``. A transport never chooses a stream: only the communicator decides on which stream a
collective runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import RedOp
from nccl_bench.errors import NcclBenchError, TransportError

UNIQUE_ID_BYTES = 128  # NCCL_UNIQUE_ID_BYTES in nccl.h
SYMMETRIC_WINDOW = 1  # NCCL_WIN_COLL_SYMMETRIC in nccl.h


# A function with the arguments of `Transport.all_reduce`. The argument for the communicator is an int, or an object
# of the binding.
DirectAllReduce = Callable[[int, int, int, int, int, Any, int], object]


class Transport(Protocol):
    """The calls that a communicator makes. Every method raises ``TransportError`` if the library reports a failure.

    Counts are in elements, sizes are in bytes, and ranks are numbered within the communicator. Collectives are enqueued
    on ``stream``, and the call returns before they are done.
    """

    name: str  # "nccl", "nccl4py" or "gloo"
    backend: str  # the name of the same library in torch.distributed: "nccl" or "gloo"
    path: str | None = None  # the path of libnccl; None for another library
    version: int = 0  # NCCL's own number, such as 22809; 0 for another library
    # True if the library writes a log that says whether the buffers of a call are registered.
    logs_registration: bool = False
    has_float8: bool = True  # False: the library knows no float8, and can only move it as bytes
    dtypes: Mapping[str, int]  # the library's number of each data type in `catalog.dtypes.DTYPES`
    redops: Mapping[RedOp, int]  # the library's number of each reduction
    # `retain(stream, *tensors)` keeps the tensors alive until the work that is now in the stream is done. None if the
    # device's memory allocator keeps them alive itself.
    retain: Callable[..., None] | None
    # The exceptions of the binding. A function of `direct_all_reduce` can raise them, and `translated` translates them.
    failures: tuple[type[Exception], ...] = ()

    def refusal(self, case: Case) -> str | None:
        """Return why this version of the library cannot run ``case``; ``None`` if it can."""
        return None

    def unique_id(self) -> bytes:
        """Return a new id (``UNIQUE_ID_BYTES`` bytes). One rank makes the id; every rank passes it to ``init_rank``."""

    def init_rank(self, world_size: int, unique_id: bytes, rank: int) -> int:
        """Return the handle of a new communicator. Collective: blocks until every rank has called this method."""

    def destroy(self, comm: int) -> None:
        """Free ``comm``, after waiting until it is idle and all graphs that captured its operations are freed."""

    def abort(self, comm: int) -> None:
        """Free the communicator without waiting for outstanding operations."""

    def all_reduce(self, send: int, recv: int, count: int, dtype: int, op: int, comm: int, stream: int) -> None:
        """Reduce ``count`` elements over the ranks into every rank's ``recv``."""

    def direct_all_reduce(self, comm: int) -> tuple[DirectAllReduce, Any]:
        """Return the function for ``all_reduce`` with the fewest Python calls, and its argument for ``comm``.

        If the library reports a failure, the function raises ``TransportError`` or one of ``failures``.
        """
        return self.all_reduce, comm

    def translated(self, function: str, failure: Exception) -> NcclBenchError:
        """Return our exception for ``failure``, which ``function`` raised. Its class is in ``failures``."""
        return TransportError(f"{function}: {failure}")

    def all_gather(self, send: int, recv: int, send_count: int, dtype: int, comm: int, stream: int) -> None:
        """Gather every rank's ``send_count`` elements, in rank order, into every rank's ``recv``."""

    def reduce_scatter(
        self, send: int, recv: int, recv_count: int, dtype: int, op: int, comm: int, stream: int
    ) -> None:
        """Reduce one block of ``recv_count`` elements for each rank; rank r gets block r in ``recv``."""

    def all_to_all(self, send: int, recv: int, count: int, dtype: int, comm: int, stream: int) -> None:
        """Send block r of ``send`` to rank r, and receive block r of ``recv`` from rank r; ``count`` is per block."""

    def broadcast(self, send: int, recv: int, count: int, dtype: int, root: int, comm: int, stream: int) -> None:
        """Copy the root's ``send`` into every rank's ``recv``."""

    def reduce(self, send: int, recv: int, count: int, dtype: int, op: int, root: int, comm: int, stream: int) -> None:
        """Reduce ``count`` elements over the ranks into the root's ``recv``; do not change ``recv`` of other ranks."""

    def send(self, buffer: int, count: int, dtype: int, peer: int, comm: int, stream: int) -> None:
        """Send ``count`` elements to ``peer``, which must receive the same number."""

    def recv(self, buffer: int, count: int, dtype: int, peer: int, comm: int, stream: int) -> None:
        """Receive ``count`` elements from ``peer``."""

    def group_start(self) -> None:
        """Hold back the calls of this thread until the outermost ``group_end``."""

    def group_end(self) -> None:
        """Launch together all calls that the group held back."""

    def group(self) -> AbstractContextManager[None]:
        """Call ``group_start`` at the start of a ``with`` block, and ``group_end`` at its end, even after an exception.

        If ``group_end`` fails too, its error becomes a note on the exception of the block.
        """
        return _Group(self)

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
        """Send to the rank ``dst`` and receive from the rank ``src``, in one group."""
        with self.group():
            self.send(send, send_count, send_dtype, dst, comm, stream)
            self.recv(recv, recv_count, recv_dtype, src, comm, stream)

    # Calls that register memory. These defaults register nothing, and return what NCCL returns in that case.

    def mem_alloc(self, size: int) -> int:
        """Allocate ``size`` bytes that ``register`` and ``window_register`` accept, and return the pointer."""
        raise TransportError(f"{self.name} cannot allocate {size} bytes: use an ordinary tensor")

    def mem_free(self, ptr: int) -> None:
        """Free the memory at ``ptr``, a pointer that ``mem_alloc`` returned."""
        return

    def register(self, comm: int, ptr: int, size: int) -> int:
        """Register ``size`` bytes at ``ptr`` with ``comm`` and return the handle; 0 if nothing was registered."""
        return 0

    def deregister(self, comm: int, handle: int) -> None:
        """End a registration. Call this method before ``mem_free``."""
        return

    def window_register(self, comm: int, ptr: int, size: int, flags: int = 0) -> int | None:
        """Return the handle of a new memory window; ``None`` if the machine supports no windows. Collective."""
        return None

    def window_deregister(self, comm: int, window: int) -> None:
        """Free a memory window."""
        return

    def describe(self) -> dict[str, object]:
        """Return facts for ``run.json``: the version, and for libnccl also the ``path`` and ``source``."""


class _Group:
    """The context manager of ``Transport.group``. A generator would take a microsecond more."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def __enter__(self) -> None:
        self._transport.group_start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._transport.group_end()
        else:
            end_group_after(self._transport, error)


def end_group_after(transport: Transport, error: BaseException) -> None:
    """End the open group after ``error``. If the end fails too, its error becomes a note on ``error``."""
    try:
        transport.group_end()
    except TransportError as end_error:
        error.add_note(f"After this error, the open group could not be closed: {end_error}")
