"""The code that the stream-free and the dedicated-stream communicator share: everything except the choice of stream.

The operations are those of SGLang's ``PyNcclCommunicator``. In this module each operation gets the raw handle of its
stream. The two subclasses differ only in how they get the handle, because a benchmark would also measure any other
difference. The transport gets plain ints. Each operation makes a cheap check of its arguments. If the check fails,
slower code finds the reason.

The in-place ``all_reduce`` is not shared: each subclass has the same lines. Engines call ``all_reduce`` hundreds of
times in each decoding step, so this method makes as few Python calls as possible. It calls the binding's own function
(``Transport.direct_all_reduce``). It does not check that the tensor is contiguous; the engines' classes do not check
this either. ``tests.experiments.binding_cost`` measures the time that the class adds to a call.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NoReturn

import torch
from torch import Tensor

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import RedOp
from nccl_bench.communicators import arguments
from nccl_bench.communicators.connected import ConnectedCommunicator
from nccl_bench.communicators.protocol import Operation
from nccl_bench.errors import InvalidArgumentError

# Collective -> the method that takes the stream as an argument in both designs.
_TAKES_STREAM: Mapping[str, str] = {"all_gather": "cp_all_gather_into_tensor"}


class TransportCommunicator(ConnectedCommunicator):
    """A communicator that calls a transport directly, over the ranks of ``group``. Construction is collective."""

    cp_all_gather_into_tensor: Callable[..., None]

    @property
    def async_gather(self) -> Callable[..., None]:
        """The communicator's all-gather for context parallelism."""
        return self.cp_all_gather_into_tensor

    def call_on(self, case: Case, x: Tensor, y: Tensor, side: Any) -> Operation | None:
        method = _TAKES_STREAM.get(case.collective)
        return None if method is None else partial(getattr(self, method), y, x, side)

    def _warm_up(self, stream: Any) -> None:
        """Run a tiny all-reduce on ``stream``, so that connections exist before the first operation."""
        try:
            with self._streams.stream(stream):
                tiny = torch.zeros(1, device=self._streams.device)
                self._outplace_all_reduce(tiny, tiny, RedOp.SUM, self._streams.handle(stream))
            stream.synchronize()
        except BaseException:
            self.abort()
            raise

    def _default_handle(self) -> int:
        """Return the handle of the current stream, for an operation without a stream argument."""
        return self._current_handle()

    # -- operations, each on the stream with the given handle ----------------------------------------------------

    def _outplace_all_reduce(self, input: Tensor, out: Tensor | None, op: RedOp, handle: int) -> Tensor:
        output = torch.empty_like(input) if out is None else out
        source, target, count, dtype = self._pair(input, output, 1)
        self._transport.all_reduce(source, target, count, dtype, self._redops[op], self._comm, handle)
        if self._retain is not None:
            self._retain(handle, input, output)
        return output

    def _all_gather(self, output: Tensor, input: Tensor, sizes: Sequence[int] | None, handle: int) -> None:
        if sizes is None:
            source, target, count, dtype = self._pair(input, output, self.world_size)
            self._transport.all_gather(source, target, count, dtype, self._comm, handle)
        else:
            source, dtype = self._pointer(input), self._dtypes[input.dtype]
            arguments.check_sizes(sizes, whole=output, part=input, rank=self.rank, world_size=self.world_size)
            target = self._matching(output, input, output.numel())
            with self._transport.group():
                for root, (offset, count) in enumerate(_blocks(sizes, output)):
                    block = target + offset * output.element_size()
                    send = source if root == self.rank else block
                    self._transport.broadcast(send, block, count, dtype, root, self._comm, handle)
        if self._retain is not None:
            self._retain(handle, input, output)

    def _reduce_scatter(
        self, output: Tensor, input: Tensor, op: RedOp, sizes: Sequence[int] | None, handle: int
    ) -> None:
        if sizes is None:
            target, source, count, dtype = self._pair(output, input, self.world_size)
            self._transport.reduce_scatter(source, target, count, dtype, self._redops[op], self._comm, handle)
        else:
            target, dtype = self._pointer(output), self._dtypes[output.dtype]
            arguments.check_sizes(sizes, whole=input, part=output, rank=self.rank, world_size=self.world_size)
            source = self._matching(input, output, input.numel())
            with self._transport.group():
                for root, (offset, count) in enumerate(_blocks(sizes, input)):
                    block = source + offset * input.element_size()
                    receive = target if root == self.rank else block
                    self._transport.reduce(block, receive, count, dtype, self._redops[op], root, self._comm, handle)
        if self._retain is not None:
            self._retain(handle, input, output)

    def _all_to_all(self, output: Tensor, input: Tensor, handle: int) -> None:
        source, target, count, dtype = self._pair(input, output, 1)
        block, rest = divmod(count, self.world_size)
        if rest:
            arguments.refuse_division(input, self.world_size)
        self._transport.all_to_all(source, target, block, dtype, self._comm, handle)
        if self._retain is not None:
            self._retain(handle, input, output)

    def _broadcast(self, tensor: Tensor, src: int, out: Tensor | None, handle: int) -> None:
        self._check_peer("src", src)
        source, target, count, dtype = self._pair(tensor, tensor if out is None else out, 1)
        self._transport.broadcast(source, target, count, dtype, src, self._comm, handle)
        if self._retain is not None:
            self._retain(handle, tensor, out)

    def _reduce(self, tensor: Tensor, dst: int, op: RedOp, out: Tensor | None, handle: int) -> None:
        self._check_peer("dst", dst)
        source, target, count, dtype = self._pair(tensor, tensor if out is None else out, 1)
        self._transport.reduce(source, target, count, dtype, self._redops[op], dst, self._comm, handle)
        if self._retain is not None:
            self._retain(handle, tensor, out)

    def _send(self, tensor: Tensor, dst: int, handle: int) -> None:
        self._check_peer("dst", dst)
        source = self._pointer(tensor)
        self._transport.send(source, tensor.numel(), self._dtypes[tensor.dtype], dst, self._comm, handle)
        if self._retain is not None:
            self._retain(handle, tensor)

    def _recv(self, tensor: Tensor, src: int, handle: int) -> None:
        self._check_peer("src", src)
        target = self._pointer(tensor)
        self._transport.recv(target, tensor.numel(), self._dtypes[tensor.dtype], src, self._comm, handle)
        if self._retain is not None:
            self._retain(handle, tensor)

    def _send_recv(self, output: Tensor, input: Tensor, dst: int, src: int, handle: int) -> None:
        # Make all checks before the group: a send without its receive would wait forever.
        world_size, device = self.world_size, self._tensor_device
        send_dtype, recv_dtype = self._dtypes.get(input.dtype), self._dtypes.get(output.dtype)
        if not (0 <= dst < world_size and 0 <= src < world_size):
            self._check_peer("dst", dst)
            self._check_peer("src", src)
        if (
            send_dtype is None
            or recv_dtype is None
            or self.disabled
            or input.get_device() != device
            or output.get_device() != device
            or not input.is_contiguous()
            or not output.is_contiguous()
        ):
            self._pointer(input)
            self._refuse(output)
        source = input.data_ptr() or self._no_memory(input)
        target = output.data_ptr() or self._no_memory(output)
        self._transport.send_recv(
            source, input.numel(), send_dtype, dst, target, output.numel(), recv_dtype, src, self._comm, handle
        )
        if self._retain is not None:
            self._retain(handle, input, output)

    # -- operations of both subclasses ---------------------------------------------------------------------------

    def return_all_reduce(self, input: Tensor, op: RedOp = RedOp.SUM) -> Tensor:
        """Reduce ``input`` over all ranks into a new tensor, and return the new tensor."""
        return self._outplace_all_reduce(input, None, op, self._default_handle())

    def gather(self, output: Tensor, input: Tensor, dst: int) -> None:
        # Gather with one group of sends and receives, as in nccl-tests (src/gather.cu): only NCCL 2.28 and later have
        # ncclGather. The root sends its own block to itself.
        self._check_peer("dst", dst)
        is_root = self.rank == dst
        source, count, dtype = self._pointer(input), input.numel(), self._dtypes[input.dtype]
        target = self._matching(output, input, count * self.world_size) if is_root else 0
        block_bytes, handle = count * input.element_size(), self._default_handle()
        with self._transport.group():
            self._transport.send(source, count, dtype, dst, self._comm, handle)
            for peer in range(self.world_size) if is_root else ():
                self._transport.recv(target + peer * block_bytes, count, dtype, peer, self._comm, handle)
        if self._retain is not None:
            self._retain(handle, input, output)

    # -- refusals ------------------------------------------------------------------------------------------------

    def _pointer(self, tensor: Tensor) -> int:
        """Return the address of ``tensor``. Raise an error if no operation can take this tensor."""
        if (
            self.disabled
            or tensor.get_device() != self._tensor_device
            or not tensor.is_contiguous()
            or tensor.dtype not in self._dtypes
        ):
            self._refuse(tensor)
        return tensor.data_ptr() or self._no_memory(tensor)

    def _pair(self, part: Tensor, whole: Tensor, blocks: int) -> tuple[int, int, int, int]:
        """Return the addresses of ``part`` and ``whole``, the count of ``part``, and the number of their data type.

        Raise an error if no operation can take these tensors, or if ``whole`` is not ``blocks`` times as long.
        """
        kind, count, device = part.dtype, part.numel(), self._tensor_device
        dtype = self._dtypes.get(kind)
        if (
            dtype is None
            or self.disabled
            or part.get_device() != device
            or whole.get_device() != device
            or not part.is_contiguous()
            or not whole.is_contiguous()
        ):
            self._pointer(part)
            self._refuse(whole)
        if whole.dtype is not kind or whole.numel() != count * blocks:
            arguments.refuse_pair(whole, part, count * blocks)
        return part.data_ptr() or self._no_memory(part), whole.data_ptr() or self._no_memory(whole), count, dtype

    def _no_memory(self, tensor: Tensor) -> int:
        # A meta tensor has the CPU's device index and no address. An empty tensor is valid, although it has no address.
        return self._refuse(tensor) if tensor.numel() else 0

    def _refuse(self, tensor: Tensor) -> NoReturn:
        self._require_enabled()
        arguments.refuse_tensor(tensor, self._streams.device, self._dtypes)

    def _matching(self, tensor: Tensor, other: Tensor, count: int) -> int:
        if tensor.dtype is not other.dtype or tensor.numel() != count:
            arguments.refuse_pair(tensor, other, count)
        return self._pointer(tensor)

    def _check_peer(self, name: str, peer: int) -> None:
        if not 0 <= peer < self.world_size:
            raise InvalidArgumentError(
                f"{name} is rank {peer}, and the communicator has ranks 0 to {self.world_size - 1}"
            )


def _blocks(sizes: Sequence[int], whole: Tensor) -> Iterator[tuple[int, int]]:
    """Return the offset and the count, in elements, of each rank's block along dimension 0."""
    row = whole.numel() // whole.shape[0] if whole.shape[0] else 0
    offsets = [0, *accumulate(sizes)]
    return ((offset * row, size * row) for offset, size in zip(offsets, sizes, strict=False))
