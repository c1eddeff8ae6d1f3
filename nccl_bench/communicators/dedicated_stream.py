"""The old design of a communicator: it owns a private stream, and every operation can take another stream instead."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.communicators.over_transport import TransportCommunicator
from nccl_bench.communicators.protocol import Operation
from nccl_bench.transports.device import Device


class DedicatedStreamCommunicator(TransportCommunicator):
    """A communicator that runs an operation on the argument ``stream`` or, if it is ``None``, on its private stream.

    With ``use_current_stream`` the current stream replaces the private stream. The communicator never orders its stream
    with another stream. A caller that gives no stream must fork to the private stream and join it.
    """

    stream_is_movable = True

    def __init__(self, group: dist.ProcessGroup, device: Device, use_current_stream: bool = False) -> None:
        super().__init__(group, device)
        self.use_current_stream = use_current_stream
        self.stream = device.streams.new_stream()
        self._warm_up(self.stream)

    @contextmanager
    def change_state(self, enable: bool | None = None, stream: Any = None) -> Iterator[None]:
        """Change the state and the private stream within a ``with`` block. Restore both at the end of the block."""
        before = self.stream
        with super().change_state(enable):
            self.stream = before if stream is None else stream
            try:
                yield
            finally:
                self.stream = before

    def stream_fetches(self) -> list[Operation]:
        """Return the function that chooses the stream of an operation."""
        return [self._default_handle]

    def _default_handle(self) -> int:
        return self._resolve(None)

    def _resolve(self, stream: Any) -> int:
        if stream is not None:
            return self._streams.handle(stream)
        if self.use_current_stream:
            return self._current_handle()
        return self._streams.handle(self.stream)

    def all_reduce(self, tensor: Tensor, op: RedOp = RedOp.SUM, stream: Any = None) -> None:
        dtype = self._dtypes.get(tensor.dtype)
        if dtype is None or self.disabled or tensor.get_device() != self._tensor_device:
            self._refuse(tensor)
        pointer = tensor.data_ptr() or self._no_memory(tensor)
        handle = self._resolve(stream)
        try:
            self._all_reduce(pointer, pointer, tensor.numel(), dtype, self._redops[op], self._direct_comm, handle)
        except self._failures as error:
            raise self._transport.translated("ncclAllReduce", error) from error
        if self._retain is not None:
            self._retain(handle, tensor)

    def outplace_all_reduce(
        self, input: Tensor, out: Tensor | None = None, op: RedOp = RedOp.SUM, stream: Any = None
    ) -> Tensor:
        return self._outplace_all_reduce(input, out, op, self._resolve(stream))

    def all_gather(self, output: Tensor, input: Tensor, sizes: Sequence[int] | None = None, stream: Any = None) -> None:
        self._all_gather(output, input, sizes, self._resolve(stream))

    def cp_all_gather_into_tensor(
        self, output: Tensor, input: Tensor, stream: Any = None, sizes: Sequence[int] | None = None
    ) -> None:
        """Gather as ``all_gather`` does, for context parallelism. Without ``stream``, gather on the private stream."""
        self._all_gather(output, input, sizes, self._resolve(stream))

    def reduce_scatter(
        self,
        output: Tensor,
        input: Tensor,
        op: RedOp = RedOp.SUM,
        sizes: Sequence[int] | None = None,
        stream: Any = None,
    ) -> None:
        self._reduce_scatter(output, input, op, sizes, self._resolve(stream))

    def all_to_all(self, output: Tensor, input: Tensor, stream: Any = None) -> None:
        self._all_to_all(output, input, self._resolve(stream))

    def broadcast(self, tensor: Tensor, src: int, out: Tensor | None = None, stream: Any = None) -> None:
        self._broadcast(tensor, src, out, self._resolve(stream))

    def reduce(
        self, tensor: Tensor, dst: int, op: RedOp = RedOp.SUM, out: Tensor | None = None, stream: Any = None
    ) -> None:
        self._reduce(tensor, dst, op, out, self._resolve(stream))

    def send(self, tensor: Tensor, dst: int, stream: Any = None) -> None:
        self._send(tensor, dst, self._resolve(stream))

    def recv(self, tensor: Tensor, src: int, stream: Any = None) -> None:
        self._recv(tensor, src, self._resolve(stream))

    def send_recv(self, output: Tensor, input: Tensor, dst: int, src: int, stream: Any = None) -> None:
        self._send_recv(output, input, dst, src, self._resolve(stream))
