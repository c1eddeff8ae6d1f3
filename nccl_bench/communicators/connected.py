"""The life of a communicator over a transport: construction, registration of memory, tracing, and close."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
import torch.distributed as dist

from nccl_bench.catalog.cost_parts import CostPart
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.communicators.base import SwitchableCommunicator
from nccl_bench.communicators.protocol import Operation
from nccl_bench.communicators.recording import Recorder
from nccl_bench.communicators.tracing import Tracer
from nccl_bench.errors import InvalidArgumentError
from nccl_bench.transports.base import SYMMETRIC_WINDOW, Transport
from nccl_bench.transports.device import Device


class ConnectedCommunicator(SwitchableCommunicator):
    """A communicator of a transport, over the ranks of ``group``, without operations.

    ``group`` is a torch.distributed group on any backend except NCCL. The group sends NCCL's unique id to all ranks
    during construction, and is not used afterwards. Construction is collective.
    """

    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__()
        if dist.get_backend(group) == "nccl":
            raise InvalidArgumentError(
                "the group uses NCCL: give a Gloo group, which sends the unique id without the use of a stream"
            )
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)
        self._comm = 0
        self._streams = device.streams
        # Returns the handle of this device's current stream, even if another device is current at the call.
        self._current_handle = partial(device.streams.current_handle, device.streams.index)
        self._retain = device.transport.retain
        self._tensor_device = torch.empty(0, device=device.streams.device).get_device()
        self._dtypes = {getattr(torch, name): device.transport.dtypes[name] for name in DTYPES}
        self._redops = device.transport.redops
        self._transport = device.transport
        self._comm = device.transport.init_rank(self.world_size, self._share_unique_id(group), self.rank)
        self._call_through(device.transport)
        self._make_available()

    def _call_through(self, transport: Transport) -> None:
        """Make all later calls through ``transport``, which is the device's transport or a wrapper of it."""
        self._transport = transport
        self._all_reduce, self._direct_comm = transport.direct_all_reduce(self._comm)
        self._failures = transport.failures

    def _share_unique_id(self, group: dist.ProcessGroup) -> bytes:
        buffer = torch.zeros(128, dtype=torch.uint8)
        if self.rank == 0:
            buffer = torch.frombuffer(bytearray(self._transport.unique_id()), dtype=torch.uint8)
        dist.broadcast(buffer, src=dist.get_global_rank(group, 0), group=group)
        return bytes(buffer.tolist())

    def libraries(self) -> list[str]:
        return [] if self._transport.path is None else [self._transport.path]

    @contextmanager
    def traced(self) -> Iterator[list[tuple[str, int]]]:
        """Record each call to the transport in a ``with`` block: the name of the call and the handle of its stream."""
        calls: list[tuple[str, int]] = []
        transport = self._transport
        self._call_through(cast(Transport, Tracer(transport, calls)))
        try:
            yield calls
        finally:
            self._call_through(transport)

    def library_call(self, operation: Operation) -> Operation:
        """Return a function that makes the calls of ``operation`` to the transport, and nothing else."""
        transport, retain = self._transport, self._retain
        recorder = Recorder(transport)
        self._call_through(cast(Transport, recorder))
        self._retain = None
        try:
            operation()
        finally:
            self._call_through(transport)
            self._retain = retain
        return recorder.recorded()

    def stream_fetches(self) -> list[Operation]:
        """Return the functions with which an operation fetches its stream."""
        return [self._current_handle]

    def cost_parts(self, operation: Operation) -> dict[CostPart, list[Operation]]:
        return {CostPart.STREAM: self.stream_fetches(), CostPart.CALL: [self.library_call(operation)]}

    def close(self) -> None:
        """Destroy the communicator after its work. Callers must first reset the graphs of this communicator.

        If queued work failed, raises the error of that work after the communicator is destroyed.
        """
        comm = self._give_up()
        if comm:
            try:
                self._streams.synchronize()
            except BaseException:
                self._transport.abort(comm)
                raise
            self._transport.destroy(comm)

    def abort(self) -> None:
        """Destroy the communicator without waiting for its work, after a failure."""
        comm = self._give_up()
        if comm:
            self._transport.abort(comm)

    def _give_up(self) -> int:
        self._retire()
        comm, self._comm = self._comm, 0
        return comm

    def registration(self, window: bool) -> tuple[Callable[[int, int], int | None], Callable[[int], None]]:
        register = self.register_comm_window_raw if window else self.register_comm_memory

        def enabled(ptr: int, size: int) -> int | None:
            # Outside graphs a coordinator's communicator is disabled, so enable it for the registration.
            with self.change_state(True):
                return register(ptr, size)

        return enabled, self.deregister_comm_window if window else self.deregister_comm_memory

    def register_comm_window_raw(self, ptr: int, size: int) -> int | None:
        """Register ``size`` bytes at ``ptr`` as a window; return ``None`` if windows are unavailable. Collective."""
        self._require_enabled()
        return self._transport.window_register(self._comm, ptr, size, SYMMETRIC_WINDOW)

    def deregister_comm_window(self, window: int) -> None:
        """Undo ``register_comm_window_raw``."""
        self._require_available()
        self._transport.window_deregister(self._comm, window)

    def register_comm_memory(self, ptr: int, size: int) -> int | None:
        """Register ``size`` bytes at ``ptr`` on this rank; return ``None`` if nothing was registered."""
        self._require_enabled()
        return self._transport.register(self._comm, ptr, size) or None

    def deregister_comm_memory(self, handle: int) -> None:
        """Undo ``register_comm_memory``."""
        self._require_available()
        self._transport.deregister(self._comm, handle)
