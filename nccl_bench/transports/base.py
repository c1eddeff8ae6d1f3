"""The one protocol over libnccl and Gloo: how a collective reaches the wire, given a stream.

Everything on the hot path is a plain int: pointers, counts, the communicator, the stream handle, and the transport's
own numbers for data types and reductions, looked up once in ``dtypes`` and ``redops``. A transport has no stream of
its own and chooses none, so which stream a collective runs on is the communicator's decision alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.errors import TransportError

UNIQUE_ID_BYTES = 128  # NCCL_UNIQUE_ID_BYTES in nccl.h
SYMMETRIC_WINDOW = 1  # NCCL_WIN_COLL_SYMMETRIC in nccl.h


class Transport(Protocol):
    """What a communicator calls. Every method raises ``TransportError`` where the library reports a failure.

    Counts are elements, sizes are bytes, ranks are ranks in the communicator. ``dtypes`` is keyed by the names in
    ``collectives.DTYPES``. Collectives are enqueued on ``stream`` and return before they are done.
    """

    name: str
    dtypes: Mapping[str, int]
    redops: Mapping[RedOp, int]
    # `retain(stream, *tensors)` keeps tensors alive until what was issued on that stream so far is done; None where
    # the device's allocator sees to that.
    retain: Callable[..., None] | None

    def unique_id(self) -> bytes:
        """A new id of ``UNIQUE_ID_BYTES`` bytes: made on one rank, handed to every other one before ``init_rank``."""

    def init_rank(self, world_size: int, unique_id: bytes, rank: int) -> int:
        """The new communicator's handle. Collective: blocks until every rank has called it."""

    def finalize(self, comm: int) -> None:
        """Flush what is outstanding, before ``destroy``."""

    def destroy(self, comm: int) -> None:
        """Free the communicator. Waits until every graph that captured it is gone."""

    def abort(self, comm: int) -> None:
        """Free the communicator without waiting for what is outstanding."""

    def async_error(self, comm: int) -> None:
        """Raise if an operation that was enqueued without error has failed since."""

    def split(self, comm: int, color: int, key: int) -> int:
        """A communicator of the ranks that pass the same ``color``, ordered by ``key``; 0 for color -1. Collective."""

    def all_reduce(self, send: int, recv: int, count: int, dtype: int, op: int, comm: int, stream: int) -> None:
        """Reduce ``count`` elements over the ranks into every rank's ``recv``."""

    def all_gather(self, send: int, recv: int, send_count: int, dtype: int, comm: int, stream: int) -> None:
        """Gather every rank's ``send_count`` elements, in rank order, into every rank's ``recv``."""

    def reduce_scatter(
        self, send: int, recv: int, recv_count: int, dtype: int, op: int, comm: int, stream: int
    ) -> None:
        """Reduce world size x ``recv_count`` elements and leave block ``rank`` in ``recv``."""

    def all_to_all(self, send: int, recv: int, count: int, dtype: int, comm: int, stream: int) -> None:
        """Send block r of ``count`` elements to rank r, and put what rank r sends into block r of ``recv``."""

    def broadcast(self, send: int, recv: int, count: int, dtype: int, root: int, comm: int, stream: int) -> None:
        """Copy the root's ``send`` into every rank's ``recv``."""

    def reduce(self, send: int, recv: int, count: int, dtype: int, op: int, root: int, comm: int, stream: int) -> None:
        """Reduce ``count`` elements over the ranks into the root's ``recv``; other ranks' ``recv`` is not touched."""

    def send(self, buffer: int, count: int, dtype: int, peer: int, comm: int, stream: int) -> None:
        """Send ``count`` elements to ``peer``, which must receive as many."""

    def recv(self, buffer: int, count: int, dtype: int, peer: int, comm: int, stream: int) -> None:
        """Receive ``count`` elements from ``peer``."""

    def group_start(self) -> None:
        """Hold back this thread's calls until the outermost ``group_end``."""

    def group_end(self) -> None:
        """Launch what the group held back, as one."""

    @contextmanager
    def group(self) -> Iterator[None]:
        """``group_start`` and ``group_end`` around a body; closed also when the body raises.

        The body's exception wins over one of ``group_end``, which becomes a note on it.
        """
        self.group_start()
        try:
            yield
        except BaseException as body_error:
            try:
                self.group_end()
            except TransportError as end_error:
                body_error.add_note(f"The group it ended did not close either: {end_error}")
            raise
        self.group_end()

    def mem_alloc(self, size: int) -> int:
        """The pointer to ``size`` new bytes that ``register`` and ``window_register`` accept."""

    def mem_free(self, ptr: int) -> None:
        """Free what ``mem_alloc`` returned."""

    def register(self, comm: int, ptr: int, size: int) -> int:
        """The handle of ``size`` bytes at ``ptr``, now registered with ``comm``; 0 where that was left undone."""

    def deregister(self, comm: int, handle: int) -> None:
        """Give up a registration, which comes before ``mem_free``."""

    def window_register(self, comm: int, ptr: int, size: int, flags: int = 0) -> int | None:
        """The handle of a memory window, or ``None`` where this machine cannot have one. Collective."""

    def window_deregister(self, comm: int, window: int) -> None:
        """Give up a window."""

    def describe(self) -> dict[str, object]:
        """What the record should say: at least the version, and for a library its ``path`` and ``source``."""
