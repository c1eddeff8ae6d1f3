"""Small user arms for the CPU, with the streams and groups of ``user_communicators``.

Returning         only `all_reduce`, which returns a new tensor
ReturningBefore   the same, on a private stream
EndsWhenDropped   Returning, which ends its group when nothing refers to the object any more
CustomAllReduce   an engine's custom all-reduce, which answers `None` to messages above a size
Asynchronous      returns a handle from its all-reduce, and an output with a handle from its gather
make_all_reduce   a function that returns an in-place all-reduce
"""

# Users write few annotations, and torch's stubs do not know that ReduceOp.SUM is a ReduceOp.
# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup, ReduceOp

from nccl_bench.ranks.process import destroy_group
from nccl_bench.streams import cpu
from tests.support.gloo_wire import Wire, gather_into


class Returning:
    """Sums one tensor over the ranks and returns a new tensor."""

    def __init__(self, group: ProcessGroup, device: torch.device) -> None:
        self.wire = Wire(group)

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        result = torch.empty_like(tensor)
        self.wire.all_reduce(cpu.current_stream(), tensor, result, ReduceOp.SUM)
        return result


class ReturningBefore(Returning):
    """Fills the new tensor on its private stream."""

    def __init__(self, group: ProcessGroup, device: torch.device) -> None:
        super().__init__(group, device)
        self.stream = cpu.Stream()

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        result = torch.empty_like(tensor)
        self.wire.all_reduce(self.stream, tensor, result, ReduceOp.SUM)
        return result


class EndsWhenDropped(Returning):
    """Has no method that ends it. Its group ends with the object."""

    def __del__(self) -> None:
        self.wire.destroy()


class CustomAllReduce:
    """Takes messages up to ``max_size`` bytes. Its callers ask first, and are answered ``None`` if they do not."""

    def __init__(self, group: ProcessGroup, device: torch.device, max_size: int = 8192) -> None:
        self.wire = Wire(group)
        self.max_size = max_size

    def should_custom_ar(self, inp: torch.Tensor) -> bool:
        return inp.numel() * inp.element_size() <= self.max_size

    def custom_all_reduce(self, input: torch.Tensor) -> torch.Tensor | None:
        if not self.should_custom_ar(input):
            return None
        result = torch.empty_like(input)
        self.wire.all_reduce(cpu.current_stream(), input, result, ReduceOp.SUM)
        return result


class Asynchronous:
    """Starts its collectives, and returns handles that the caller waits for."""

    def __init__(self, group: ProcessGroup, device: torch.device) -> None:
        self.group = dist.new_group(dist.get_process_group_ranks(group), backend="gloo")

    def all_reduce(self, tensor: torch.Tensor, op: ReduceOp = ReduceOp.SUM):
        return dist.all_reduce(tensor, op, group=self.group, async_op=True)

    def all_gather(self, input: torch.Tensor, dim: int = -1):
        output = input.new_empty((dist.get_world_size(self.group) * input.shape[0], *input.shape[1:]))
        return output, gather_into(output, input, group=self.group, async_op=True)

    def close(self) -> None:
        destroy_group(self.group)


def make_all_reduce(group: ProcessGroup, device: torch.device) -> Callable[[torch.Tensor], None]:
    wire = Wire(group)

    def all_reduce(tensor: torch.Tensor) -> None:
        wire.all_reduce(cpu.current_stream(), tensor, tensor, ReduceOp.SUM)

    return all_reduce
