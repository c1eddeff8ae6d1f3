"""The communicator after the refactor: it owns no stream, and every operation runs on the current one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.communicators.over_transport import TransportCommunicator
from nccl_bench.streams.base import Streams
from nccl_bench.transports.device import Device


class StreamFreeCommunicator(TransportCommunicator):
    """Runs every operation on the current stream of its own device, whichever device is current.

    No operation takes a stream but ``cp_all_gather_into_tensor``, where it is mandatory and the caller orders it.
    """

    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__(group, device)
        # A stream for the warm-up alone, released with this call: afterwards there is none to be out of order with.
        self._warm_up(device.streams.new_stream())

    def all_reduce(self, tensor: Tensor, op: RedOp = RedOp.SUM) -> None:
        """Reduce ``tensor`` over all ranks, in place."""
        dtype = self._dtypes.get(tensor.dtype)
        if dtype is None or self.disabled or tensor.get_device() != self._tensor_device or not tensor.is_contiguous():
            self._refuse(tensor)
        pointer = tensor.data_ptr() or self._no_memory(tensor)
        handle = self._current_handle()
        self._transport.all_reduce(pointer, pointer, tensor.numel(), dtype, self._redops[op], self._comm, handle)
        if self._retain is not None:
            self._retain(handle, tensor)

    def outplace_all_reduce(self, input: Tensor, out: Tensor | None = None, op: RedOp = RedOp.SUM) -> Tensor:
        """Reduce ``input`` over all ranks into ``out``, made if not given, and return it."""
        return self._outplace_all_reduce(input, out, op, self._current_handle())

    def all_gather(self, output: Tensor, input: Tensor, sizes: Sequence[int] | None = None) -> None:
        """Gather every rank's ``input`` into ``output``; ``sizes`` are the ranks' lengths along dimension 0."""
        self._all_gather(output, input, sizes, self._current_handle())

    def cp_all_gather_into_tensor(
        self, output: Tensor, input: Tensor, stream: Any, sizes: Sequence[int] | None = None
    ) -> None:
        """``all_gather`` on ``stream``, which the caller orders before and after."""
        self._all_gather(output, input, sizes, self._streams.handle(stream))

    def reduce_scatter(
        self, output: Tensor, input: Tensor, op: RedOp = RedOp.SUM, sizes: Sequence[int] | None = None
    ) -> None:
        """Reduce ``input`` and leave block ``rank`` in ``output``; ``sizes`` are the blocks' lengths on dimension 0."""
        self._reduce_scatter(output, input, op, sizes, self._current_handle())

    def all_to_all(self, output: Tensor, input: Tensor) -> None:
        """Send block r of ``input`` to rank r and receive rank r's block at block r of ``output``."""
        self._all_to_all(output, input, self._current_handle())

    def broadcast(self, tensor: Tensor, src: int, out: Tensor | None = None) -> None:
        """Send ``tensor`` of rank ``src`` to everybody's ``out``, or to their ``tensor``."""
        self._broadcast(tensor, src, out, self._current_handle())

    def reduce(self, tensor: Tensor, dst: int, op: RedOp = RedOp.SUM, out: Tensor | None = None) -> None:
        """Reduce everybody's ``tensor`` into ``out``, or ``tensor``, of rank ``dst``."""
        self._reduce(tensor, dst, op, out, self._current_handle())

    def send(self, tensor: Tensor, dst: int) -> None:
        """Send ``tensor`` to rank ``dst``."""
        self._send(tensor, dst, self._current_handle())

    def recv(self, tensor: Tensor, src: int) -> None:
        """Receive ``tensor`` from rank ``src``."""
        self._recv(tensor, src, self._current_handle())

    def send_recv(self, output: Tensor, input: Tensor, dst: int, src: int) -> None:
        """Send ``input`` to rank ``dst`` and receive ``output`` from rank ``src``, as one operation."""
        self._send_recv(output, input, dst, src, self._current_handle())


class TorchStreamCommunicator(StreamFreeCommunicator):
    """The same with the stream fetched as engines once did: torch.cuda.current_stream(), which makes an object a call.

    vLLM cached it (#11870), and a cache goes stale; ``StreamFreeCommunicator`` asks for the raw handle.
    """

    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__(group, device)
        self._current_handle = partial(_handle_of_current, device.streams)


def _handle_of_current(streams: Streams) -> int:
    return streams.handle(streams.current_stream())
