"""Measure the microseconds that an adapter adds to a user's own call, on this CPU. Takes about 5 seconds.

    python -m tests.experiments.adapter_cost

The figure is in the guide's page about user arms. Communicators that do nothing are called as users call them and as an
arm calls them, in alternating batches. The output has medians over the batches and the quartiles of the differences.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median, quantiles
from time import perf_counter_ns
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.arms import Order
from nccl_bench.catalog.collectives import RedOp
from nccl_bench.transports.device import Device, open_device
from nccl_bench.user_arms.communicator import UserCommunicator

SUM = dist.ReduceOp.SUM


class Before:
    """An engine before its refactor: a private stream, and `stream` in every call."""

    def __init__(self, group: Any, device: torch.device, streams: Any = None) -> None:
        self.stream = _streams.new_stream()

    def all_reduce(self, tensor: Tensor, op: Any = SUM, stream: Any = None) -> None: ...

    def outplace_all_reduce(
        self, source: Tensor, out_tensor: Any = None, op: Any = SUM, stream: Any = None
    ) -> None: ...

    def all_gather(self, output: Tensor, input: Tensor, stream: Any = None, sizes: Any = None) -> None: ...

    def reduce_scatter(
        self, output: Tensor, input: Tensor, op: Any = SUM, stream: Any = None, sizes: Any = None
    ) -> None: ...

    def broadcast(self, tensor: Tensor, src: int, stream: Any = None) -> None: ...

    def send(self, tensor: Tensor, dst: int, stream: Any = None) -> None: ...

    def recv(self, tensor: Tensor, src: int, stream: Any = None) -> None: ...

    def group_start(self) -> None: ...

    def group_end(self) -> None: ...


class After:
    """An engine after its refactor: no streams."""

    def __init__(self, group: Any, device: torch.device) -> None: ...

    def all_reduce(self, tensor: Tensor, op: Any = SUM) -> None: ...

    def outplace_all_reduce(self, source: Tensor, out_tensor: Tensor | None = None, op: Any = SUM) -> None: ...

    def all_gather(self, output: Tensor, input: Tensor, sizes: Any = None) -> None: ...

    def reduce_scatter(self, output: Tensor, input: Tensor, op: Any = SUM, sizes: Any = None) -> None: ...

    def broadcast(self, tensor: Tensor, src: int) -> None: ...


class WithOutput:
    """An engine whose all-reduce takes an output."""

    def __init__(self, group: Any, device: torch.device) -> None: ...

    def all_reduce(self, tensor: Tensor, out_tensor: Any = None, op: Any = SUM, stream: Any = None) -> Any:
        return _result(tensor) if out_tensor is None else None

    def all_gather(self, output: Tensor, input: Tensor, stream: Any = None) -> None: ...


class Returning:
    """An engine whose all-reduce returns its result."""

    def __init__(self, group: Any, device: torch.device) -> None: ...

    def all_reduce(self, tensor: Tensor, op: Any = SUM) -> Any:
        return _result(tensor)


class Protocol:
    """A communicator of nccl-bench's own protocol."""

    def __init__(self, group: Any, device: torch.device) -> None: ...

    def all_reduce(self, tensor: Tensor, op: RedOp = RedOp.SUM) -> None: ...

    def all_gather(self, output: Tensor, input: Tensor, sizes: Any = None) -> None: ...


def function(tensor: Tensor) -> None:
    """All-reduce in place, by doing nothing."""


def returning(tensor: Tensor) -> Tensor:
    """Return the result of an all-reduce in a new tensor, in fact in the same tensor every time."""
    return _result(tensor)


def _result(tensor: Tensor) -> Tensor:
    return _RESULT if tensor.numel() == _RESULT.numel() else torch.empty_like(tensor)


_RESULT = torch.zeros(4)
_streams: Any = None

Pair = tuple[str, Callable[[], object], Callable[[], object]]


def pairs(group: dist.ProcessGroup, device: Device) -> Iterator[Pair]:
    """Yield the name of a call, the call as users make it, and the call as an arm makes it."""
    x, y, op = torch.zeros(4), torch.zeros(4), RedOp.SUM

    def adapted(target: object, order: Order | None = None) -> Any:
        return UserCommunicator(target, group, device, order=order)

    user, arm, current = (
        Before(group, device.streams.device),
        adapted(Before, Order.CURRENT),
        device.streams.current_stream,
    )
    # The user's caller must fetch the current stream too.
    handed = "before, current stream fetched and handed over: "
    yield handed + "all_reduce", lambda: user.all_reduce(x, SUM, current()), partial(arm.all_reduce, x, op)
    yield (
        handed + "reduce_scatter",
        lambda: user.reduce_scatter(y, x, SUM, current()),
        partial(arm.reduce_scatter, y, x, op),
    )
    yield handed + "all_gather", lambda: user.all_gather(y, x, current()), partial(arm.all_gather, y, x)
    arm = adapted(Before)
    yield from _common("before, private stream", user, arm, x, y)
    yield "before, private stream: send_recv", partial(_exchange, user, x, y), partial(arm.send_recv, y, x, 0, 0)
    yield from _common("after", After(group, device.streams.device), adapted(After), x, y)
    other, arm = WithOutput(group, device.streams.device), adapted(WithOutput)
    yield "with an output: all_reduce in place", partial(other.all_reduce, x, x, SUM), partial(arm.all_reduce, x, op)
    yield (
        "with an output: all_reduce out of place",
        partial(other.all_reduce, x, y, SUM),
        partial(arm.outplace_all_reduce, x, y, op),
    )
    yield (
        "with an output: all_reduce returned",
        partial(other.all_reduce, x, None, SUM),
        partial(arm.returning("all_reduce"), x, op),
    )
    yield "with an output: all_gather", partial(other.all_gather, y, x), partial(arm.all_gather, y, x)
    ours, arm = Protocol(group, device.streams.device), adapted(Protocol)
    yield "protocol: all_reduce", partial(ours.all_reduce, x, op), partial(arm.all_reduce, x, op)
    yield "protocol: all_gather", partial(ours.all_gather, y, x), partial(arm.all_gather, y, x)
    yield "callable: all_reduce", partial(function, x), partial(adapted(function).all_reduce, x, op)
    yield (
        "returning: all_reduce",
        partial(Returning(group, device.streams.device).all_reduce, x, SUM),
        partial(adapted(Returning).returning("all_reduce"), x, op),
    )
    yield (
        "callable returning: all_reduce",
        partial(returning, x),
        partial(adapted(returning).returning("all_reduce"), x, op),
    )


def _common(shape: str, user: Any, arm: Any, x: Tensor, y: Tensor) -> Iterator[Pair]:
    op = RedOp.SUM
    yield f"{shape}: all_reduce", partial(user.all_reduce, x, SUM), partial(arm.all_reduce, x, op)
    yield (
        f"{shape}: outplace_all_reduce",
        partial(user.outplace_all_reduce, x, y, SUM),
        partial(arm.outplace_all_reduce, x, y, op),
    )
    yield f"{shape}: all_gather", partial(user.all_gather, y, x), partial(arm.all_gather, y, x)
    yield f"{shape}: reduce_scatter", partial(user.reduce_scatter, y, x, SUM), partial(arm.reduce_scatter, y, x, op)
    yield f"{shape}: broadcast", partial(user.broadcast, x, 0), partial(arm.broadcast, x, 0, None)


def _exchange(user: Any, x: Tensor, y: Tensor) -> None:
    user.group_start()
    user.send(x, 0)
    user.recv(y, 0)
    user.group_end()


def _us(call: Callable[[], object], calls: int) -> float:
    started = perf_counter_ns()
    for _ in range(calls):
        call()
    return (perf_counter_ns() - started) / calls / 1e3


def main() -> None:
    global _streams
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=301)
    parser.add_argument("--calls", type=int, default=1000)
    arguments = parser.parse_args()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    group = dist.group.WORLD
    assert group is not None
    device = open_device("cpu", 0)
    _streams = device.streams
    fetch = [_us(device.streams.current_stream, arguments.calls) for _ in range(arguments.batches)]
    print(f"fetching the current stream, in what hands it over: {median(fetch):.3f} us")
    gc.disable()
    for name, plain, wrapped in pairs(group, device):
        times = [(_us(plain, arguments.calls), _us(wrapped, arguments.calls)) for _ in range(arguments.batches)]
        user_us, arm_us = (median(column) for column in zip(*times, strict=True))
        low, _, high = quantiles([arm - user for user, arm in times], n=4)
        print(f"{name}: {user_us:.3f} us and {arm_us:.3f} us, {arm_us - user_us:+.3f} us ({low:+.3f} to {high:+.3f})")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
