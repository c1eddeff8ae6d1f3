"""What one 8-byte all_reduce costs the CPU thread through each binding of NCCL, in microseconds, on this GPU.

    python -m tests.experiments.binding_cost
    torchrun --nproc-per-node 2 -m tests.experiments.binding_cost

The host's clock around calls behind the gate; batches alternate, and rank 0's medians and quartiles are shown. Alone
in the world NCCL launches nothing in place, so what is left is the binding and NCCL's own checks. Ranks that share a
GPU take turns of milliseconds on it: give --batches 41 --calls 50 there.
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

from nccl_bench.bench.timing import Clock, Operation, loop_cost_us
from nccl_bench.communicators.bare_transport import RecordedCommunicator
from nccl_bench.transports.device import Device, open_device
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl4py import Nccl4py, Nccl4pyTransport

LEAST_GATE_S = 0.002
# The gate, in pilot times: the pilot is one batch, and a batch whose gate opens early is lost.
GATE = 4


def calls(group: dist.ProcessGroup, device: Device) -> dict[str, Operation]:
    """One all_reduce of the same tensor on the current stream, by what it goes through."""
    assert isinstance(device.transport, NcclTransport)
    over = replace(device, transport=Nccl4pyTransport(device.transport.library))
    tensor = torch.ones(2, device=device.streams.device)
    ours, theirs = RecordedCommunicator(group, device), RecordedCommunicator(group, over)
    with_ctypes = ours.prepare(lambda: ours.all_reduce(tensor))
    with_nccl4py = theirs.prepare(lambda: theirs.all_reduce(tensor))
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
        "fetching the current stream, which the last one does": current_stream,
    }


def measure(
    device: Device, operations: Mapping[str, Operation], batches: int, count: int
) -> tuple[dict[str, list[float]], int]:
    """Microseconds a call of every valid batch by name, and how many batches were not valid.

    The current stream is not the default one, and what the operations run on.
    """
    clock = Clock(device.streams, device.streams.current_stream(), align=lambda: None)
    names = list(operations)
    # The first batch has whatever happens once.
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
    parser.add_argument("--calls", type=int, default=200, help="in a batch, below the launch queue's 1,000 entries")
    asked = parser.parse_args()
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
        times, lost = measure(device, operations, asked.batches, asked.calls)
    if dist.get_rank() == 0:
        assert isinstance(device.transport, NcclTransport)
        for transport in (device.transport, Nccl4pyTransport(device.transport.library)):
            print("  ".join(f"{key} {value}" for key, value in transport.describe().items()))
        print(f"world size {dist.get_world_size()}, {lost} batches lost, loop {loop_cost_us():.3f} us a call")
        for name, found in times.items():
            low, _, high = quantiles(found, n=4)
            print(f"{name}: {median(found):.3f} us ({low:.3f} to {high:.3f}, {len(found)} batches)")
    # The communicators go with the process: the public API's is the nccl4py transport's.
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
