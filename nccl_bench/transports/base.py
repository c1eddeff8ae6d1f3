"""The protocol of transports. A transport runs a collective through libnccl or Gloo, on a given stream.

Every argument of a timed call is a plain int: a pointer, a count, the handle of a communicator or a stream, or the
library's number of a data type or a reduction. Callers look up the numbers of data types and reductions once, in
``dtypes`` and ``redops``. A transport never chooses a stream: only the communicator decides on which stream a
collective runs.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.errors import TransportError

UNIQUE_ID_BYTES = 128  # NCCL_UNIQUE_ID_BYTES in nccl.h
SYMMETRIC_WINDOW = 1  # NCCL_WIN_COLL_SYMMETRIC in nccl.h


class Transport(Protocol):
    """The calls that a communicator makes. Every method raises ``TransportError`` if the library reports a failure.

    Counts are in elements, sizes are in bytes, and ranks are numbered within the communicator. Collectives are enqueued
    on ``stream``, and the call returns before they are done.
    """

    name: str  # "nccl", "nccl4py" or "gloo"
    backend: str  # the name of the same library in torch.distributed: "nccl" or "gloo"
    version: int = 0  # NCCL's own number, such as 22809; 0 for another library
    has_float8: bool = True  # False: the library knows no float8, and can only move it as bytes
    dtypes: Mapping[str, int]  # the library's number of each data type in `catalog.dtypes.DTYPES`
    redops: Mapping[RedOp, int]  # the library's number of each reduction
    # `retain(stream, *tensors)` keeps the tensors alive until the work that is now in the stream is done. None if the
    # memory allocator of the device does this itself.
    retain: Callable[..., None] | None

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

    @contextmanager
    def group(self) -> Iterator[None]:
        """Call ``group_start`` at the start of a ``with`` block, and ``group_end`` at its end, even after an exception.

        If ``group_end`` fails too, its error becomes a note on the exception of the block.
        """
        self.group_start()
        try:
            yield
        except BaseException as body_error:
            try:
                self.group_end()
            except TransportError as end_error:
                body_error.add_note(f"After this error, the open group could not be closed: {end_error}")
            raise
        self.group_end()

    # Calls that register memory. These defaults register nothing and return what NCCL returns if it registers nothing.

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
