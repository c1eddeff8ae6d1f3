"""Measure the CPU time of an 8-byte all_reduce through each binding of NCCL, on a GPU. Takes less than a minute.

    python -m tests.experiments.binding_cost
    torchrun --nproc-per-node 2 -m tests.experiments.binding_cost

The figures are in ``results/README.md``. The host's clock measures calls behind the gate, in alternating batches, and
rank 0 prints medians and quartiles. A single rank launches nothing in place, so its figure is the cost of the binding
and of NCCL's own checks. Ranks that share a GPU take turns of milliseconds: use ``--batches 41 --calls 50`` there.
"""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from statistics import median, quantiles

import torch
import torch.distributed as dist

from nccl_bench.bench.timing import Clock, loop_cost_us
from nccl_bench.communicators.bare_transport import RecordedCommunicator
from nccl_bench.communicators.protocol import Operation
from nccl_bench.transports.device import Device, open_device
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl4py import Nccl4py, Nccl4pyTransport

LEAST_GATE_S = 0.002
# The gate lasts so many times the pilot batch. A batch whose gate opens too early is lost.
GATE = 4


def calls(group: dist.ProcessGroup, device: Device) -> dict[str, Operation]:
    """Return calls of an all_reduce of the same tensor on the current stream, by binding."""
    assert isinstance(device.transport, NcclTransport)
    nccl4py_device = replace(device, transport=Nccl4pyTransport(device.transport.library))
    tensor = torch.ones(2, device=device.streams.device)
    by_ctypes, by_nccl4py = RecordedCommunicator(group, device), RecordedCommunicator(group, nccl4py_device)
    with_ctypes = by_ctypes.prepare(lambda: by_ctypes.all_reduce(tensor))
    with_nccl4py = by_nccl4py.prepare(lambda: by_nccl4py.all_reduce(tensor))
    assert isinstance(with_nccl4py, partial)
    *numbers, comm, stream = with_nccl4py.args
    nccl4py, current_stream = Nccl4py(), device.streams.current_stream
    public = nccl4py.core.Communicator(comm)
    redop = nccl4py.core.NcclRedOp.SUM
    return {
        "the ctypes transport": with_ctypes,
        "the nccl4py transport": with_nccl4py,
        "nccl4py's binding alone": partial(nccl4py.bindings.all_reduce, *numbers, nccl4py.bindings.Comm(comm), stream),
        "nccl4py's public API": lambda: public.allreduce(tensor, tensor, redop, stream=current_stream()),
        "fetching the current stream, which the public API call includes": current_stream,
    }


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=301)
    parser.add_argument("--calls", type=int, default=200, help="calls in a batch, at most 1,000")
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    else:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    group = dist.group.WORLD
    assert group is not None
    device = open_device("cuda", int(os.environ.get("LOCAL_RANK", "0")), sharing="RANK" in os.environ)
    with device.streams.stream(device.streams.new_stream()):
        operations = calls(group, device)
        gc.disable()
        times, lost = measure(device, operations, arguments.batches, arguments.calls)
    if dist.get_rank() == 0:
        assert isinstance(device.transport, NcclTransport)
        for transport in (device.transport, Nccl4pyTransport(device.transport.library)):
            print("  ".join(f"{key} {value}" for key, value in transport.describe().items()))
        print(f"world size {dist.get_world_size()}, {lost} batches lost, loop {loop_cost_us():.3f} us a call")
        for name, samples_us in times.items():
            low, _, high = quantiles(samples_us, n=4)
            print(f"{name}: {median(samples_us):.3f} us ({low:.3f} to {high:.3f}, {len(samples_us)} batches)")
    # The end of the process ends the communicators; the public API and the nccl4py transport share one.
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
