"""NVIDIA's nccl4py as its users call it: the methods of ``nccl.core.Communicator``, with tensors."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.cost_parts import CostPart
from nccl_bench.communicators import arguments
from nccl_bench.communicators.base import SwitchableCommunicator
from nccl_bench.communicators.protocol import Operation
from nccl_bench.errors import InvalidArgumentError, NcclBenchError
from nccl_bench.transports.base import UNIQUE_ID_BYTES
from nccl_bench.transports.device import Device
from nccl_bench.transports.nccl4py import Nccl4pyBindings, import_nccl4py


class Nccl4py(Nccl4pyBindings):
    """All modules of nccl4py that a user calls."""

    def __init__(self) -> None:
        super().__init__()
        self.core = import_nccl4py("nccl.core")
        self.failures = (*self.failures, self.core.NcclInvalid)

    def error(self, function: str, error: Any) -> NcclBenchError:
        """Return our exception for ``error``, which ``function`` raised. Its class is in ``failures``."""
        if isinstance(error, self.core.NcclInvalid):
            return InvalidArgumentError(f"nccl4py refused {function}: {error}")
        return super().error(function, error)


class Nccl4pyCommunicator(SwitchableCommunicator):
    """A communicator around one ``nccl.core.Communicator``, over the ranks of ``group``.

    ``group`` can use any backend except NCCL. Every call passes ``torch.cuda.current_stream()``: without ``stream``,
    nccl4py would use the legacy default stream (handle 0), even if another stream is current. Construction is
    collective. Raises ``SetupError`` unless the right nccl4py is installed.
    """

    untraced_path = "nccl.core.Communicator on the current stream"

    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__()
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)
        nccl4py = Nccl4py()
        self._core, self._failures, self._error = nccl4py.core, nccl4py.failures, nccl4py.error
        self._redops = {op: self._core.NcclRedOp[op.name] for op in RedOp}
        self._streams = device.streams
        self._current_stream = device.streams.current_stream
        try:
            unique_id = bytes(self._core.get_unique_id()) if self.rank == 0 else bytes(UNIQUE_ID_BYTES)
            # Not broadcast_object_list, which unpickles what it receives.
            buffer = torch.frombuffer(bytearray(unique_id), dtype=torch.uint8)
            dist.broadcast(buffer, src=dist.get_global_rank(group, 0), group=group)
            wrapped = self._core.UniqueId.from_bytes(bytes(buffer.tolist()))
            self._communicator = self._core.Communicator.init(self.world_size, self.rank, wrapped)
        except self._failures as error:
            raise self._error("making a communicator", error) from error
        self._path = nccl4py.path()
        self._make_available()
        self.all_reduce(torch.zeros(1, device=device.streams.device))
        device.streams.synchronize()

    def libraries(self) -> list[str]:
        return [self._path]

    def cost_parts(self, operation: Operation) -> dict[CostPart, list[Operation]]:
        # nccl4py calls the library itself, so the part `CALL` cannot run alone.
        return {CostPart.STREAM: [self._current_stream]}

    def close(self) -> None:
        """Destroy the communicator after its work. Callers must first reset the graphs of this communicator."""
        if not self.available:
            return
        self._retire()
        try:
            self._streams.synchronize()
        except BaseException:
            self._communicator.abort()
            raise
        self._communicator.destroy()

    def all_reduce(self, tensor: Tensor, op: RedOp = RedOp.SUM) -> None:
        # Do not call `_run`: this call would count as time of nccl4py. Our own communicators make no such call either.
        self._require_enabled()
        try:
            self._communicator.allreduce(tensor, tensor, self._redops[op], stream=self._current_stream())
        except self._failures as error:
            raise self._error("allreduce", error) from error

    def outplace_all_reduce(self, input: Tensor, out: Tensor | None = None, op: RedOp = RedOp.SUM) -> Tensor:
        output = torch.empty_like(input) if out is None else out
        self._run(self._communicator.allreduce, input, output, self._redops[op])
        return output

    def return_all_reduce(self, input: Tensor, op: RedOp = RedOp.SUM) -> Tensor:
        """Reduce ``input`` over all ranks into a new tensor, and return the new tensor."""
        return self.outplace_all_reduce(input, None, op)

    def all_gather(self, output: Tensor, input: Tensor, sizes: Sequence[int] | None = None) -> None:
        if sizes is None:
            self._run(self._communicator.allgather, input, output)
        else:
            arguments.check_sizes(sizes, whole=output, part=input, rank=self.rank, world_size=self.world_size)
            self._run(self._gather_blocks, torch.split(output, list(sizes)), input)

    def _gather_blocks(self, blocks: Sequence[Tensor], part: Tensor, *, stream: Any) -> None:
        with self._core.group():
            for root, block in enumerate(blocks):
                self._communicator.broadcast(part, block, root, stream=stream)

    def reduce_scatter(
        self, output: Tensor, input: Tensor, op: RedOp = RedOp.SUM, sizes: Sequence[int] | None = None
    ) -> None:
        if sizes is None:
            self._run(self._communicator.reduce_scatter, input, output, self._redops[op])
        else:
            arguments.check_sizes(sizes, whole=input, part=output, rank=self.rank, world_size=self.world_size)
            self._run(self._scatter_blocks, torch.split(input, list(sizes)), output, self._redops[op])

    def _scatter_blocks(self, blocks: Sequence[Tensor], part: Tensor, op: Any, *, stream: Any) -> None:
        with self._core.group():
            for root, block in enumerate(blocks):
                self._communicator.reduce(block, part, op, root, stream=stream)

    def all_to_all(self, output: Tensor, input: Tensor) -> None:
        self._run(self._communicator.alltoall, input, output)

    def broadcast(self, tensor: Tensor, src: int, out: Tensor | None = None) -> None:
        self._run(self._communicator.broadcast, tensor, tensor if out is None else out, src)

    def reduce(self, tensor: Tensor, dst: int, op: RedOp = RedOp.SUM, out: Tensor | None = None) -> None:
        self._run(self._communicator.reduce, tensor, tensor if out is None else out, self._redops[op], dst)

    def send_recv(self, output: Tensor, input: Tensor, dst: int, src: int) -> None:
        self._run(self._exchange, output, input, dst, src)

    def _exchange(self, output: Tensor, input: Tensor, dst: int, src: int, *, stream: Any) -> None:
        with self._core.group():
            self._communicator.send(input, dst, stream=stream)
            self._communicator.recv(output, src, stream=stream)

    def _run(self, call: Callable[..., None], *args: Any) -> None:
        self._require_enabled()
        try:
            call(*args, stream=self._current_stream())
        except self._failures as error:
            raise self._error(call.__name__.strip("_"), error) from error
