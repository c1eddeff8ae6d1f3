"""The new design of a communicator: it owns no stream, and every operation runs on the current stream."""

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
    """A communicator that runs every operation on its own device's current stream, even if another device is current.

    Only ``cp_all_gather_into_tensor`` takes a stream, which the caller must order with the current stream.
    """

    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__(group, device)
        # The stream of the warm-up is idle afterwards and never used again, so no other work needs to wait for it.
        self._warm_up(device.streams.new_stream())

    def all_reduce(self, tensor: Tensor, op: RedOp = RedOp.SUM) -> None:
        dtype = self._dtypes.get(tensor.dtype)
        if dtype is None or self.disabled or tensor.get_device() != self._tensor_device:
            self._refuse(tensor)
        pointer = tensor.data_ptr() or self._no_memory(tensor)
        handle = self._current_handle()
        try:
            self._all_reduce(pointer, pointer, tensor.numel(), dtype, self._redops[op], self._direct_comm, handle)
        except self._failures as error:
            raise self._transport.translated("ncclAllReduce", error) from error
        if self._retain is not None:
            self._retain(handle, tensor)

    def outplace_all_reduce(self, input: Tensor, out: Tensor | None = None, op: RedOp = RedOp.SUM) -> Tensor:
        return self._outplace_all_reduce(input, out, op, self._current_handle())

    def all_gather(self, output: Tensor, input: Tensor, sizes: Sequence[int] | None = None) -> None:
        self._all_gather(output, input, sizes, self._current_handle())

    def cp_all_gather_into_tensor(
        self, output: Tensor, input: Tensor, stream: Any, sizes: Sequence[int] | None = None
    ) -> None:
        """Gather as ``all_gather`` does, on ``stream``. The caller must fork to ``stream`` and join it."""
        self._all_gather(output, input, sizes, self._streams.handle(stream))

    def reduce_scatter(
        self, output: Tensor, input: Tensor, op: RedOp = RedOp.SUM, sizes: Sequence[int] | None = None
    ) -> None:
        self._reduce_scatter(output, input, op, sizes, self._current_handle())

    def all_to_all(self, output: Tensor, input: Tensor) -> None:
        self._all_to_all(output, input, self._current_handle())

    def broadcast(self, tensor: Tensor, src: int, out: Tensor | None = None) -> None:
        self._broadcast(tensor, src, out, self._current_handle())

    def reduce(self, tensor: Tensor, dst: int, op: RedOp = RedOp.SUM, out: Tensor | None = None) -> None:
        self._reduce(tensor, dst, op, out, self._current_handle())

    def send(self, tensor: Tensor, dst: int) -> None:
        self._send(tensor, dst, self._current_handle())

    def recv(self, tensor: Tensor, src: int) -> None:
        self._recv(tensor, src, self._current_handle())

    def send_recv(self, output: Tensor, input: Tensor, dst: int, src: int) -> None:
        self._send_recv(output, input, dst, src, self._current_handle())


class TorchStreamCommunicator(StreamFreeCommunicator):
    """A stream-free communicator that gets the stream by ``torch.cuda.current_stream()``, as engines once did.

    ``current_stream()`` makes a new object in each call. vLLM cached the object (#11870), but a cached stream can be
    outdated. ``StreamFreeCommunicator`` gets the raw handle instead.
    """

    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__(group, device)
        self._current_handle = partial(_handle_of_current, device.streams)


def _handle_of_current(streams: Streams) -> int:
    return streams.handle(streams.current_stream())
