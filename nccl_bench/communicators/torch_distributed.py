"""torch.distributed with our protocol: the communicator that every user of torch already has.

``async_op=False`` is the synchronous form, which runs on the current stream since torch 2.8 (pytorch #150398). The
asynchronous form forks to the process group's own stream and joins with ``wait()``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.communicators import arguments
from nccl_bench.communicators.base import SwitchableCommunicator
from nccl_bench.communicators.protocol import Operation
from nccl_bench.errors import InvalidArgumentError
from nccl_bench.ranks.process import NO_TIMEOUT, destroy_group
from nccl_bench.transports.device import Device
from nccl_bench.transports.gloo_operations import TORCH_REDOPS
from nccl_bench.transports.torch_library import torch_library

# torch 2.13 renames both functions and deprecates the old names. Older versions have only the old names.
_all_gather: Callable[..., Any] = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter: Callable[..., Any] = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
# torch before 2.6 cannot number ranks within the group: it takes the numbers of the default group.
_BY_GROUP_RANK = "group_src" in signature(dist.broadcast).parameters
_SRC, _DST, _PEER = ("group_src", "group_dst", "group_peer") if _BY_GROUP_RANK else ("src", "dst", "peer")
_FLOAT8_DTYPES = frozenset({torch.float8_e4m3fn, torch.float8_e5m2})


class ProcessGroupCommunicator(SwitchableCommunicator):
    """A communicator with its own torch.distributed group, over the ranks of ``group``.

    Construction is collective. torch.distributed has no out-of-place ``all_reduce``, ``broadcast`` and ``reduce``.
    torch.distributed refuses a ``send`` or a ``recv`` between a rank and itself.
    """

    def __init__(self, group: dist.ProcessGroup, device: Device, async_op: bool = False) -> None:
        super().__init__()
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)
        self.async_op = async_op
        self.untraced_path = f"torch.distributed, {'asynchronous' if async_op else 'synchronous'}"
        self._submit = device.streams.submit
        # A collective that only moves data moves float8 as bytes.
        self._float8_as_bytes = not device.transport.has_float8
        ranks, backend = dist.get_process_group_ranks(group), device.transport.backend
        self._calls_nccl = device.transport.path is not None
        self._numbers = range(self.world_size) if _BY_GROUP_RANK else ranks  # the number of each rank for torch
        self._group = dist.new_group(ranks, backend=backend, timeout=NO_TIMEOUT)
        self._make_available()
        tiny = torch.zeros(1, device=device.streams.device)
        self.all_reduce(tiny)
        device.streams.synchronize()

    def libraries(self) -> list[str]:
        path = torch_library() if self._calls_nccl else None
        return [] if path is None else [path]

    def close(self) -> None:
        """Destroy the group. Callers must first reset the graphs of this communicator."""
        if self.available:
            self._retire()
            destroy_group(self._group)

    def all_reduce(self, tensor: Tensor, op: RedOp = RedOp.SUM) -> None:
        self._run(dist.all_reduce, tensor, op=TORCH_REDOPS[op])

    def outplace_all_reduce(self, input: Tensor, out: Tensor | None = None, op: RedOp = RedOp.SUM) -> Tensor:
        raise InvalidArgumentError("torch.distributed has no out-of-place all_reduce: use all_reduce on a copy")

    def all_gather(self, output: Tensor, input: Tensor, sizes: Sequence[int] | None = None) -> None:
        if sizes is None:
            self._run(_all_gather, self._wire(output), self._wire(input))
        else:
            arguments.check_sizes(sizes, whole=output, part=input, rank=self.rank, world_size=self.world_size)
            blocks = torch.split(output, list(sizes))
            self._require_enabled()
            self._submit(blocks[self.rank].copy_, input)
            for root, block in enumerate(blocks):
                self._run(dist.broadcast, self._wire(block), **{_SRC: self._numbers[root]})

    def reduce_scatter(
        self, output: Tensor, input: Tensor, op: RedOp = RedOp.SUM, sizes: Sequence[int] | None = None
    ) -> None:
        if sizes is None:
            self._run(_reduce_scatter, output, input, op=TORCH_REDOPS[op])
        else:
            arguments.check_sizes(sizes, whole=input, part=output, rank=self.rank, world_size=self.world_size)
            # torch.distributed reduces in place, and the caller's input must not change.
            scratch = torch.empty_like(input)
            blocks = torch.split(scratch, list(sizes))
            self._require_enabled()
            self._submit(scratch.copy_, input)
            for root, block in enumerate(blocks):
                self._run(dist.reduce, block, **{_DST: self._numbers[root]}, op=TORCH_REDOPS[op])
            self._finish(output.copy_, blocks[self.rank])

    def all_to_all(self, output: Tensor, input: Tensor) -> None:
        self._run(dist.all_to_all_single, self._wire(output), self._wire(input))

    def broadcast(self, tensor: Tensor, src: int, out: Tensor | None = None) -> None:
        self._refuse_out("broadcast", out)
        self._run(dist.broadcast, self._wire(tensor), **{_SRC: self._numbers[src]})

    def reduce(self, tensor: Tensor, dst: int, op: RedOp = RedOp.SUM, out: Tensor | None = None) -> None:
        self._refuse_out("reduce", out)
        self._run(dist.reduce, tensor, **{_DST: self._numbers[dst]}, op=TORCH_REDOPS[op])

    def gather(self, output: Tensor, input: Tensor, dst: int) -> None:
        blocks = list(self._wire(output).chunk(self.world_size)) if self.rank == dst else None
        self._run(dist.gather, self._wire(input), blocks, **{_DST: self._numbers[dst]})

    def send(self, tensor: Tensor, dst: int) -> None:
        self._transfer(dist.isend, tensor, dst)

    def recv(self, tensor: Tensor, src: int) -> None:
        self._transfer(dist.irecv, tensor, src)

    def _transfer(self, function: Callable[..., Any], tensor: Tensor, peer: int) -> None:
        self._require_enabled()
        operation = dist.P2POp(function, self._wire(tensor), group=self._group, **{_PEER: self._numbers[peer]})
        self._submit(self._join, [operation])

    def _join(self, operations: list[dist.P2POp]) -> None:
        for work in dist.batch_isend_irecv(operations):
            work.wait()

    def send_recv(self, output: Tensor, input: Tensor, dst: int, src: int) -> None:
        """Send ``input`` to rank ``dst`` and receive ``output`` from rank ``src``, as one operation.

        This operation always uses the asynchronous form and joins, because ``batch_isend_irecv`` has no other form.
        """
        self._require_enabled()
        self._submit(self._exchange, self._wire(output), self._wire(input), dst, src)

    def _exchange(self, output: Tensor, input: Tensor, dst: int, src: int) -> None:
        if dst == src == self.rank:
            output.copy_(input)  # torch.distributed refuses a message from a rank to itself
            return
        self._join(
            [
                dist.P2POp(dist.isend, input, group=self._group, **{_PEER: self._numbers[dst]}),
                dist.P2POp(dist.irecv, output, group=self._group, **{_PEER: self._numbers[src]}),
            ]
        )

    def _run(self, function: Callable[..., Any], *tensors: Any, **options: Any) -> None:
        self._require_enabled()
        self._submit(self._call, function, tensors, options)

    def _call(self, function: Callable[..., Any], tensors: tuple[Any, ...], options: dict[str, Any]) -> None:
        work = function(*tensors, group=self._group, async_op=self.async_op, **options)
        if self.async_op:
            work.wait()

    def deferring(self) -> tuple[ProcessGroupCommunicator, Operation] | None:
        return _Deferring.of(self) if self.async_op else None

    def _finish(self, function: Callable[..., object], *tensors: Tensor) -> None:
        """Enqueue ``function``, which needs the results of the calls before it."""
        self._submit(function, *tensors)

    def _wire(self, tensor: Tensor) -> Tensor:
        return tensor.view(torch.uint8) if self._float8_as_bytes and tensor.dtype in _FLOAT8_DTYPES else tensor

    def _refuse_out(self, name: str, out: Tensor | None) -> None:
        if out is not None:
            raise InvalidArgumentError(f"torch.distributed has no out-of-place {name}: leave out `out`")


class _Deferring(ProcessGroupCommunicator):
    """An asynchronous communicator whose calls do not wait. ``wait`` makes the current stream wait for all of them."""

    _pending: list[Callable[[], object]]  # functions that wait for the calls so far, and work that follows

    @classmethod
    def of(cls, communicator: ProcessGroupCommunicator) -> tuple[ProcessGroupCommunicator, Operation]:
        """Return a communicator with the group of ``communicator``, and the function that waits for its calls."""
        deferring = cls.__new__(cls)
        deferring.__dict__.update(communicator.__dict__)
        deferring._pending = []
        return deferring, deferring.wait

    def wait(self) -> None:
        """Make the current stream wait for all calls."""
        self._submit(self._wait)

    def _wait(self) -> None:
        pending, self._pending = self._pending, []
        for finish in pending:
            finish()

    def _call(self, function: Callable[..., Any], tensors: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._defer(function(*tensors, group=self._group, async_op=True, **options).wait)

    def _join(self, operations: list[dist.P2POp]) -> None:
        self._pending += [work.wait for work in dist.batch_isend_irecv(operations)]

    def _finish(self, function: Callable[..., object], *tensors: Tensor) -> None:
        self._submit(self._defer, partial(function, *tensors))

    def _defer(self, finish: Callable[[], object]) -> None:
        self._pending.append(finish)
