"""Measures the memory of each arm: what its communicator took, and what its calls strand in torch's allocator."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from nccl_bench.bench.context import CaseContext
from nccl_bench.catalog.timings import Timing
from nccl_bench.plan.cases import PlannedCase
from nccl_bench.ranks.control import Control
from nccl_bench.records.meta import RecordedMemory
from nccl_bench.streams.base import Streams
from nccl_bench.streams.memory_use import MemoryUse

# Tensors of larger messages could fill the memory. The share that is stranded does not depend on the size.
_MOST_BYTES = 16 * 1024**2
# Each call has tensors of its own, which are freed behind it.
_CALLS = 8
# Much longer than the host needs for the calls, so that the device has done none of them when the last one is freed.
_GATE_S = 10e-3
_Made = TypeVar("_Made")


def with_growth(streams: Streams, make: Callable[[], _Made]) -> tuple[_Made, MemoryUse]:
    """Return what ``make`` returns, and how much more memory is in use afterwards."""
    before = streams.memory_use()
    made = make()
    streams.synchronize()
    after = streams.memory_use()
    return made, MemoryUse(
        device_bytes=_difference(before.device_bytes, after.device_bytes),
        host_bytes=_difference(before.host_bytes, after.host_bytes),
    )


def _difference(before: int | None, after: int | None) -> int | None:
    # The rest of the process can give memory back in the meantime.
    return None if before is None or after is None else max(0, after - before)


def memory_of_ranks(control: Control, growths: Mapping[str, MemoryUse], *, alone: bool) -> dict[str, RecordedMemory]:
    """Return the memory that the communicator of each arm took on each rank of ``control``. Collective.

    Unless the ranks are ``alone`` on their devices, other processes make communicators at the same time, so the memory
    of the device is unknown.
    """
    memory: dict[str, RecordedMemory] = {}
    for name, growth in growths.items():
        memory[name] = {}
        if (host := _of_ranks(control, growth.host_bytes)) is not None:
            memory[name]["host_bytes"] = host
        if alone and (device := _of_ranks(control, growth.device_bytes)) is not None:
            memory[name]["device_bytes"] = device
    return memory


def _of_ranks(control: Control, growth: int | None) -> list[int] | None:
    """Return the growth on each rank; ``None`` if one of them does not know it."""
    if control.minimum(-1 if growth is None else 0) < 0:
        return None
    return control.each_value(growth or 0)


def case_for_memory(cases: Sequence[PlannedCase]) -> PlannedCase | None:
    """Return the case with the largest message that is not too large for new tensors; ``None`` without one."""
    possible = [planned for planned in cases if planned.case.size_bytes <= _MOST_BYTES]
    return max(possible, key=lambda planned: planned.case.size_bytes, default=None)


def measure_stranded(context: CaseContext, names: Sequence[str], _timings: Sequence[Timing]) -> dict[str, int]:
    """Return how many bytes calls of each arm strand in torch's allocator, of the rank with the most. Collective.

    Stranded memory is free, but the caller's stream cannot have it. Each call gets new tensors, which are freed when it
    has returned, while a gate keeps the device from running any of the calls. Without such an allocator the result is
    empty.
    """
    stranded: dict[str, int] = {}
    for name in context.arms.visit(names, "memory"):
        bytes_of_arm = _stranded_by(context, name)
        if bytes_of_arm is not None:
            stranded[name] = bytes_of_arm
    most = context.control.maximum([stranded.get(name, -1) for name in names])
    return {name: int(number) for name, number in zip(names, most, strict=True) if number >= 0}


def _stranded_by(context: CaseContext, name: str) -> int | None:
    streams, case = context.streams, context.case_of(name)
    pair = context.buffers.pair(0, case.placement)
    streams.synchronize()
    before = streams.stranded_bytes()
    if before is None:
        return None
    streams.hold(_GATE_S)
    for _ in range(_CALLS):
        context.arms[name].bind(case, *new_pair(*pair))()
    after = streams.stranded_bytes()
    streams.synchronize()
    return None if after is None else max(0, after - before)


def new_pair(x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return new tensors like the input ``x`` and the output ``y``; they overlap as ``x`` and ``y`` do."""
    if y is None:
        return torch.empty_like(x), None
    if y is x:
        new = torch.empty_like(x)
        return new, new
    if _holds(y, x):
        output = torch.empty_like(y)
        return _part(output, _offset(x, y), x), output
    if _holds(x, y):
        new = torch.empty_like(x)
        return new, _part(new, _offset(y, x), y)
    return torch.empty_like(x), torch.empty_like(y)


def _holds(whole: Tensor, part: Tensor) -> bool:
    return 0 <= _offset(part, whole) < whole.numel()


def _offset(part: Tensor, whole: Tensor) -> int:
    """Return how many elements after ``whole`` the tensor ``part`` begins."""
    return (part.data_ptr() - whole.data_ptr()) // whole.element_size()


def _part(whole: Tensor, offset: int, like: Tensor) -> Tensor:
    return whole.view(-1)[offset : offset + like.numel()].view_as(like)
