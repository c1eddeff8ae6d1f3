"""Runs of the benchmark's loop in which an arm is wrong, or writes where it must not."""

from __future__ import annotations

import time

import torch.distributed as dist
from torch import Tensor

from nccl_bench.arms.arm import Operation
from tests.support.bench_runs import SLOW_CALL_S, Bench

# Calls that pass the check before timing. The spoiled arm is wrong from the next call on.
RIGHT_CALLS = 6
# The check of a result on the CPU takes far less time.
LATE_S = 0.05


def wrong_from_the_start(bench: Bench) -> object:
    """Run with an arm that does nothing."""
    return bench.run(changed={"torch": lambda operation, y: lambda: None})


def wrong_later(bench: Bench) -> object:
    """Run with an arm that spoils its output on rank 1 after ``RIGHT_CALLS`` calls."""
    calls = 0

    def change(operation: Operation, y: Tensor) -> Operation:
        def call() -> None:
            nonlocal calls
            calls += 1
            operation()
            if bench.rank == 1 and calls > RIGHT_CALLS:
                bench.streams.submit(y[:3].fill_, 0)

        return call

    return bench.run(changed={"torch": change}, timings="eager,gated")


def dropped_wait(bench: Bench) -> object:
    """Run with an arm that starts its collective and drops the handle. Rank 1 starts late, so rank 0 must wait."""
    group = dist.new_group()

    def change(_operation: Operation, y: Tensor) -> Operation:
        def start() -> None:
            time.sleep(SLOW_CALL_S if bench.rank == 1 else 0)
            dist.all_reduce(y, group=group, async_op=True)

        return lambda: bench.streams.submit(start)

    return bench.run(changed={"dedicated-stream": change})


def late_writer(bench: Bench) -> object:
    """Run with an arm whose results are right, and which later writes into the buffers of its calls on rank 1.

    It writes whenever a later arm begins a call, to the end of the run. Also return which of the later arm's timed
    calls had a buffer of the late writer.
    """
    written: dict[int, Tensor] = {}
    reached: list[str] = []

    def writes_later(operation: Operation, y: Tensor) -> Operation:
        written[y.data_ptr()] = y
        return operation

    def is_disturbed(operation: Operation, y: Tensor) -> Operation:
        def disturb() -> None:
            if bench.phase in ("eager", "gated") and y.data_ptr() in written:
                reached.append(bench.phase)
            for tensor in written.values() if bench.rank == 1 else ():
                tensor[5:7].fill_(3)

        def call() -> None:
            bench.streams.submit(disturb)
            operation()

        return call

    changed = {"stream-free": writes_later, "torch": is_disturbed}
    return {**bench.run(changed=changed, timings="eager,gated"), "reached": reached}


def writes_late_alone(bench: Bench) -> object:
    """Run with an arm that writes into its outputs on a stream of its own, which its caller does not wait for.

    The stream is busy before it writes. So every result is right when the caller's stream has passed the call.
    """
    side = bench.streams.new_stream()

    def change(operation: Operation, y: Tensor) -> Operation:
        def call() -> None:
            operation()
            with bench.streams.stream(side):
                bench.streams.submit(time.sleep, LATE_S)
                bench.streams.submit(y.fill_, 3)

        return call

    return bench.run(changed={"torch": change}, timings="eager")


def wrong_once(bench: Bench) -> object:
    """Run with an arm that is wrong in the first check only, and writes into nothing later."""

    def change(operation: Operation, y: Tensor) -> Operation:
        return (lambda: None) if bench.phase == "check before timing" else operation

    return bench.run(changed={"torch": change}, timings="eager")


def inputs(bench: Bench) -> object:
    """Count the different inputs of one arm while it is timed; another arm sums into the same slots before it."""
    seen: set[tuple[float, ...]] = set()

    def change(operation: Operation, y: Tensor) -> Operation:
        def call() -> None:
            if bench.phase in ("eager", "gated", "enqueue"):
                bench.streams.submit(lambda: seen.add(tuple(y[:8].tolist())))
            operation()

        return call

    result = bench.run(changed={"torch": change}, arms="stream-free,torch")
    return {**result, "inputs": len(seen)}


def chain(bench: Bench) -> object:
    """Run a chain of layers, with an arm that spoils one element of each first result on rank 1."""
    all_spoiled: list[Tensor] = []

    def change(operation: Operation, y: Tensor) -> Operation:
        spoiled: list[Tensor] = [y] if bench.rank == 1 and not all_spoiled else []
        all_spoiled.extend(spoiled)

        def call() -> None:
            operation()
            for tensor in spoiled:
                bench.streams.submit(tensor[-1:].fill_, 0)

        return call

    small = {"hidden": 64, "tokens": 3, "layers": 5, "sizes": None, "ops_per_batch": None}
    return bench.run(scenario="chain", changed={"torch": change}, timings="eager,gated", rounds=1, **small)
