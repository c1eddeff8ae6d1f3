"""The code that the stream-free and the dedicated-stream communicator share: everything except the choice of stream.

The operations are those of SGLang's ``PyNcclCommunicator``. In this module each operation gets the raw handle of its
stream. The two subclasses differ only in how they get the handle, because a benchmark would also measure any other
difference. The transport gets plain ints. Each operation makes a cheap check of its arguments. If the check fails,
slower code finds the reason.

The in-place ``all_reduce`` is not shared: each subclass has the same lines. Engines call ``all_reduce`` hundreds of
times in each decoding step, so it makes as few Python calls as possible: it calls the binding's own function
(``Transport.direct_all_reduce``), and does not check that the tensor is contiguous. The classes of the engines do not
check it either. ``tests.experiments.call_cost`` measures what the class costs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import Any, NoReturn, cast

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.communicators import arguments
from nccl_bench.communicators.base import SwitchableCommunicator
from nccl_bench.errors import InvalidArgumentError
from nccl_bench.transports.base import SYMMETRIC_WINDOW, Transport
from nccl_bench.transports.device import Device


class TransportCommunicator(SwitchableCommunicator):
    """A communicator that calls a transport directly, over the ranks of ``group``.

    ``group`` is a torch.distributed group on any backend except NCCL. The group sends NCCL's unique id to all ranks
    during construction, and is not used afterwards. Construction is collective.
    """

    cp_all_gather_into_tensor: Callable[..., None]

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

    @property
    def async_gather(self) -> Callable[..., None]:
        """The communicator's all-gather for context parallelism."""
        return self.cp_all_gather_into_tensor

    def libraries(self) -> list[str]:
        return [] if self._transport.path is None else [self._transport.path]

    @contextmanager
    def traced(self) -> Iterator[list[tuple[str, int]]]:
        """Record each call to the transport in a ``with`` block: the name of the call and the handle of its stream."""
        calls: list[tuple[str, int]] = []
        transport = self._transport
        self._call_through(cast(Transport, _Tracer(transport, calls)))
        try:
            yield calls
        finally:
            self._call_through(transport)

    # -- state ---------------------------------------------------------------------------------------------------

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

        Raise an error if no operation can take these tensors, or unless ``whole`` is ``blocks`` times as long.
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


class _Tracer:
    """A wrapper around a transport that records each call whose last argument is a stream."""

    def __init__(self, transport: Transport, calls: list[tuple[str, int]]) -> None:
        self._transport = transport
        self._calls = calls
        self.failures, self.translated = transport.failures, transport.translated

    def direct_all_reduce(self, comm: int) -> tuple[Callable[..., object], Any]:
        function, direct_comm = self._transport.direct_all_reduce(comm)
        return self._recorded("all_reduce", function), direct_comm

    def send_recv(self, *args: int) -> None:
        self._calls += [("send", args[-1]), ("recv", args[-1])]
        self._transport.send_recv(*args)

    def __getattr__(self, name: str) -> Callable[..., object]:
        method: Callable[..., object] = getattr(self._transport, name)
        return method if name.startswith("group") else self._recorded(name, method)

    def _recorded(self, name: str, call: Callable[..., object]) -> Callable[..., None]:
        def recorded(*args: Any) -> None:
            self._calls.append((name, args[-1]))
            call(*args)

        return recorded


def _blocks(sizes: Sequence[int], whole: Tensor) -> Iterator[tuple[int, int]]:
    """Return the offset and the count, in elements, of each rank's block along dimension 0."""
    row = whole.numel() // whole.shape[0] if whole.shape[0] else 0
    offsets = [0, *accumulate(sizes)]
    return ((offset * row, size * row) for offset, size in zip(offsets, sizes, strict=False))
