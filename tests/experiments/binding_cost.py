"""Measure the CPU time of small collectives through each binding of NCCL and each communicator over it.

    python -m tests.experiments.binding_cost
    torchrun --nproc-per-node 2 -m tests.experiments.binding_cost
    python -m tests.experiments.binding_cost --fake

The figures are in ``results/README.md``. The host's clock measures calls behind the gate, in alternating batches, and
rank 0 prints medians and quartiles. A single rank launches nothing in place, so its figure is the cost of Python and of
NCCL's own checks. Ranks that share a GPU take turns of milliseconds: use ``--batches 41 --calls 50`` there.

With ``--fake`` there is no GPU: NCCL is a library whose functions do nothing, so the figures are the cost of Python.
``what any class must ask`` is a function that asks the tensor for its address, count and data type, and fetches the
current stream: no class of an engine can do less. The rest of a communicator's cost is its checks.
"""

from __future__ import annotations

import argparse
import gc
import operator
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter_ns
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.bench.timing import Clock, loop_cost_us
from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.extras import has_extra
from nccl_bench.communicators.bare_transport import RecordedCommunicator
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.nccl4py import Nccl4py
from nccl_bench.communicators.protocol import Operation
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.transports.device import Device, open_device
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl4py import Nccl4pyTransport
from tests.support.communicators import nccl_device
from tests.support.fake_nccl import build

LEAST_GATE_S = 0.002
# The gate lasts so many times the pilot batch. A batch whose gate opens too early is lost.
GATE = 4


def calls(group: dist.ProcessGroup, device: Device) -> dict[str, Operation]:
    """Return calls on the current stream by name: for each binding first the calls alone, then the communicators."""
    assert isinstance(device.transport, NcclTransport)
    operations = _calls_over(group, device)
    if has_extra("nccl4py"):
        operations |= _calls_over(group, replace(device, transport=Nccl4pyTransport(device.transport.library)))
    return operations


def _calls_over(group: dist.ProcessGroup, device: Device) -> dict[str, Operation]:
    transport, rank, world_size = device.transport, dist.get_rank(group), dist.get_world_size(group)
    tensor, part = (torch.ones(2, device=device.streams.device) for _ in range(2))
    whole = torch.ones(2 * world_size, device=device.streams.device)
    bare = RecordedCommunicator(group, device)
    function, comm = transport.direct_all_reduce(bare._comm)
    dtypes, current_handle = bare._dtypes, partial(device.streams.current_handle, device.streams.index)

    def ask(tensor: Tensor) -> None:
        pointer = tensor.data_ptr()
        function(pointer, pointer, tensor.numel(), dtypes[tensor.dtype], 0, comm, current_handle())

    peers = (rank + 1) % world_size, (rank - 1) % world_size
    operations: dict[str, Callable[[], object]] = {
        "all_reduce, prepared": bare.prepare(partial(bare.all_reduce, tensor)),
        "all_gather, prepared": bare.prepare(partial(bare.all_gather, whole, part)),
        "send_recv, prepared": bare.prepare(partial(bare.send_recv, part, tensor, *peers)),
        "all_reduce, what any class must ask": partial(ask, tensor),
    }
    for name, kind in (("stream-free", StreamFreeCommunicator), ("dedicated-stream", DedicatedStreamCommunicator)):
        communicator: Any = kind(group, device)
        operations |= {
            f"all_reduce, {name}": partial(communicator.all_reduce, tensor, RedOp.SUM),
            f"all_gather, {name}": partial(communicator.all_gather, whole, part),
            f"send_recv, {name}": partial(communicator.send_recv, part, tensor, *peers),
        }
    if isinstance(transport, Nccl4pyTransport) and device.streams.follows:
        core, stream = Nccl4py().core, device.streams.current_stream
        public, redop = core.Communicator(bare._comm), core.NcclRedOp.SUM
        operations["all_reduce, public API"] = lambda: public.allreduce(tensor, tensor, redop, stream=stream())
        operations["fetching the current stream, which the public API call includes"] = stream
    return {f"{transport.name}: {name}": operation for name, operation in operations.items()}


def measure(
    device: Device, operations: Mapping[str, Operation], batches: int, count: int
) -> tuple[dict[str, list[float]], int]:
    """Return the microseconds a call of every valid batch by name, and the number of invalid batches.

    The operations run on the current stream, which is not the default stream.
    """
    clock = Clock(device.streams, device.streams.current_stream(), align=lambda: None)
    names = list(operations)
    # The first batch includes everything that happens only once.
    for name in names:
        clock.call_cost_us([operations[name]] * count)
    gates_s = {name: GATE * count * clock.call_cost_us([operations[name]] * count) / 1e6 for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    lost = 0
    for i in range(batches):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            batch = clock.enqueue([operations[name]] * count, max(LEAST_GATE_S, gates_s[name]))
            if batch.valid:
                times[name].append(batch.time_us)
            else:
                lost += 1
    return times, lost


def measure_without_gate(operations: Mapping[str, Operation], batches: int, count: int) -> dict[str, list[float]]:
    """Return the microseconds a call of every batch by name, for operations that queue nothing."""
    times: dict[str, list[float]] = {name: [] for name in operations}
    for _ in range(batches):
        for name, operation in operations.items():
            batch = [operation] * count
            begin = perf_counter_ns()
            for call in batch:
                call()
            times[name].append((perf_counter_ns() - begin) / count / 1e3)
    return times


def fake_device(directory: Path) -> Device:
    """Return a device whose libnccl does nothing, and whose current stream costs as little as torch.cuda's."""
    device = nccl_device(build(directory, "-DQUIET", "-O2"))
    device.streams.current_handle = operator.index
    return device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=301)
    parser.add_argument("--calls", type=int, default=200, help="calls in a batch, at most 1,000")
    parser.add_argument("--fake", action="store_true", help="measure Python alone, without a GPU")
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    else:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    group = dist.group.WORLD
    assert group is not None
    lost = 0
    with tempfile.TemporaryDirectory() as directory:
        if arguments.fake:
            device = fake_device(Path(directory))
            operations = calls(group, device)
            gc.disable()
            times = measure_without_gate(operations, arguments.batches, arguments.calls)
        else:
            local_rank = int(os.environ.get("LOCAL_RANK", "0"))
            device = open_device("cuda", local_rank, sharing="RANK" in os.environ)
            with device.streams.stream(device.streams.new_stream()):
                operations = calls(group, device)
                gc.disable()
                times, lost = measure(device, operations, arguments.batches, arguments.calls)
    if dist.get_rank() == 0:
        print("  ".join(f"{key} {value}" for key, value in device.transport.describe().items()))
        print(f"world size {dist.get_world_size()}, {lost} batches lost, loop {loop_cost_us():.3f} us a call")
        bare_us = median(times["nccl: all_reduce, prepared"])
        for name, samples_us in times.items():
            low, middle, high = quantiles(samples_us, n=4)
            print(
                f"{name:45s} {middle:7.3f} us ({low:.3f} to {high:.3f}), {middle / bare_us:.3f} of the bare ctypes call"
            )
    # The end of the process ends the communicators; the public API and the nccl4py transport share one.
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
