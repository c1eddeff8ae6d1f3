"""Measure the CPU time of small collectives: in C, through each binding of NCCL, and through each communicator.

    python -m tests.experiments.binding_cost
    torchrun --nproc-per-node 2 -m tests.experiments.binding_cost
    python -m tests.experiments.binding_cost --fake

The figures are in ``results/README.md``. The host's clock measures calls behind the gate, in alternating batches, and
rank 0 prints medians and quartiles. The loop in C makes the same calls as the others, in the same process and on the
same communicator, as ``-C 1`` of nccl-tests does in a process of its own. A single rank launches nothing in place, so
its figure is the cost of Python and of NCCL's own checks. Ranks that share a GPU take turns of milliseconds: use
``--batches 41 --calls 50`` there. ``--gate 0`` measures without the gate, so that the device works during the calls.

With ``--fake`` there is no GPU: NCCL is a library whose functions do nothing, so the figures are the cost of Python.
``what any class must ask`` is a function that asks the tensor for its address, count and data type, and fetches the
current stream: no class of an engine can do less. The rest of a communicator's cost is its checks.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import operator
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.communicators.torch_distributed import ProcessGroupCommunicator
from nccl_bench.transports.device import Device, open_device
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl4py import Nccl4pyTransport
from tests.support.communicators import nccl_device
from tests.support.fake_nccl import build

LEAST_GATE_S = 0.002
# The gate lasts so many times the pilot batch. A batch whose gate opens too early is lost.
GATE = 4
# Every ratio is to one of these, whichever is of the same collective.
IN_C = {name: f"C: {name}" for name in ("all_reduce", "send_recv")}
# Makes so many calls.
Calls = Callable[[int], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operands:
    """The tensors of the calls, and the ranks of a send_recv."""

    tensor: Tensor  # two elements, the input of every call and the output of an all_reduce
    part: Tensor  # two elements, the output of a send_recv
    whole: Tensor  # two elements for each rank, the output of an all_gather
    dst: int  # the rank that a send_recv sends to
    src: int  # the rank that a send_recv receives from


def calls(group: dist.ProcessGroup, device: Device, directory: Path) -> dict[str, Calls]:
    """Return what to measure by name, each on the current stream; the loop in C is compiled in ``directory``."""
    assert isinstance(device.transport, NcclTransport)
    rank, world_size, on = dist.get_rank(group), dist.get_world_size(group), device.streams.device
    operands = Operands(
        tensor=torch.ones(2, device=on),
        part=torch.ones(2, device=on),
        whole=torch.ones(2 * world_size, device=on),
        dst=(rank + 1) % world_size,
        src=(rank - 1) % world_size,
    )
    measured = _loops_in_c(group, device, operands, directory)
    once = _calls_over(group, device, operands)
    if has_extra("nccl4py"):
        nccl4py_device = replace(device, transport=Nccl4pyTransport(device.transport.library))
        once |= _calls_over(group, nccl4py_device, operands)
    if device.streams.follows:
        torch_communicator = ProcessGroupCommunicator(group, device)
        once["torch: all_reduce"] = partial(torch_communicator.all_reduce, operands.tensor)
    return measured | {name: partial(_repeat, call) for name, call in once.items()}


def _repeat(call: Callable[[], object], count: int) -> None:
    for each in [call] * count:
        each()


def _loops_in_c(group: dist.ProcessGroup, device: Device, operands: Operands, directory: Path) -> dict[str, Calls]:
    compiled = directory / "c_loop.so"
    command = ["cc", "-O2", "-shared", "-fPIC", str(Path(__file__).with_name("c_loop.c")), "-o", str(compiled)]
    subprocess.run(command, check=True)
    loops, nccl = ctypes.CDLL(str(compiled)), ctypes.CDLL(device.transport.path)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    loops.time_all_reduce.restype = loops.time_send_recv.restype = ctypes.c_longlong
    loops.time_all_reduce.argtypes = (pointer, pointer, pointer, size, number, number, pointer, pointer, number)
    loops.time_send_recv.argtypes = (*[pointer] * 6, size, number, number, number, pointer, pointer, number)
    communicator = StreamFreeCommunicator(group, device)
    comm, dtype = communicator._comm, communicator._dtypes[operands.tensor.dtype]
    stream = device.streams.current_handle(device.streams.index)
    given, received = operands.tensor.data_ptr(), operands.part.data_ptr()

    def address(function: str) -> int | None:
        return ctypes.cast(getattr(nccl, function), pointer).value

    transfer = [address(name) for name in ("ncclGroupStart", "ncclSend", "ncclRecv", "ncclGroupEnd")]
    peers = operands.dst, operands.src
    timed = {
        "all_reduce": partial(loops.time_all_reduce, address("ncclAllReduce"), given, given, 2, dtype, 0, comm, stream),
        "send_recv": partial(loops.time_send_recv, *transfer, given, received, 2, dtype, *peers, comm, stream),
    }

    def checked(loop: Callable[[int], int], count: int) -> None:
        assert loop(count) >= 0

    return {IN_C[name]: partial(checked, loop) for name, loop in timed.items()}


def _calls_over(group: dist.ProcessGroup, device: Device, operands: Operands) -> dict[str, Callable[[], object]]:
    """Return calls by name: first with prepared arguments, then those of a class."""
    transport = device.transport
    tensor, part, whole, peers = operands.tensor, operands.part, operands.whole, (operands.dst, operands.src)
    bare = RecordedCommunicator(group, device)
    function, comm = transport.direct_all_reduce(bare._comm)
    dtypes, current_handle = bare._dtypes, partial(device.streams.current_handle, device.streams.index)

    def ask(tensor: Tensor) -> None:
        pointer = tensor.data_ptr()
        function(pointer, pointer, tensor.numel(), dtypes[tensor.dtype], 0, comm, current_handle())

    once: dict[str, Callable[[], object]] = {
        "all_reduce, prepared": bare.prepare(partial(bare.all_reduce, tensor)),
        "all_gather, prepared": bare.prepare(partial(bare.all_gather, whole, part)),
        "send_recv, prepared": bare.prepare(partial(bare.send_recv, part, tensor, *peers)),
        "all_reduce, what any class must ask": partial(ask, tensor),
    }
    for name, kind in (("stream-free", StreamFreeCommunicator), ("dedicated-stream", DedicatedStreamCommunicator)):
        communicator: Any = kind(group, device)
        once |= {
            f"all_reduce, {name}": partial(communicator.all_reduce, tensor, RedOp.SUM),
            f"all_gather, {name}": partial(communicator.all_gather, whole, part),
            f"send_recv, {name}": partial(communicator.send_recv, part, tensor, *peers),
        }
    if isinstance(transport, Nccl4pyTransport) and device.streams.follows:
        core, stream = Nccl4py().core, device.streams.current_stream
        public, redop = core.Communicator(bare._comm), core.NcclRedOp.SUM
        once["all_reduce, public API"] = lambda: public.allreduce(tensor, tensor, redop, stream=stream())
        once["fetching the current stream, which the public API call includes"] = stream
    return {f"{transport.name}: {name}": call for name, call in once.items()}


def measure(
    device: Device, measured: Mapping[str, Calls], batches: int, count: int, gate: float
) -> tuple[dict[str, list[float]], int]:
    """Return the microseconds a call of every valid batch by name, and the number of invalid batches.

    The calls run on the current stream, which is not the default stream. The gate lasts ``gate`` times the pilot batch;
    0 is no gate.
    """
    clock = Clock(device.streams, device.streams.current_stream(), align=lambda: None)
    batch_of = {name: partial(make, count) for name, make in measured.items()}
    # The first batch includes everything that happens only once.
    for batch in batch_of.values():
        clock.call_cost_us([batch])
    gates_s = {name: gate * clock.call_cost_us([batch]) / 1e6 for name, batch in batch_of.items()}
    times: dict[str, list[float]] = {name: [] for name in measured}
    names, lost = list(measured), 0
    for i in range(batches):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            if not gate:
                times[name].append(clock.call_cost_us([batch_of[name]]) / count)
                continue
            timed = clock.enqueue([batch_of[name]], max(LEAST_GATE_S, gates_s[name]))
            if timed.valid:
                times[name].append(timed.time_us / count)
            else:
                lost += 1
    return times, lost


def measure_without_device(measured: Mapping[str, Calls], batches: int, count: int) -> dict[str, list[float]]:
    """Return the microseconds a call of every batch by name, for calls that queue nothing."""
    times: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(batches):
        for name, make in measured.items():
            begin = perf_counter_ns()
            make(count)
            times[name].append((perf_counter_ns() - begin) / count / 1e3)
    return times


def fake_device(directory: Path) -> Device:
    """Return a device whose libnccl does nothing, and whose current stream costs as little as torch.cuda's."""
    device = nccl_device(build(directory, "-DQUIET", "-O2"))
    device.streams.current_handle = operator.index
    return device


def report(device: Device, times: Mapping[str, list[float]], lost: int, *, fake: bool) -> None:
    """Print each median with its ratio to the loop in C, which takes no time if NCCL is ``fake``."""
    print("  ".join(f"{key} {value}" for key, value in device.transport.describe().items()))
    print(f"world size {dist.get_world_size()}, {lost} batches lost, loop {loop_cost_us():.3f} us a call")
    for name, samples_us in times.items():
        low, middle, high = quantiles(samples_us, n=4)
        in_c = [times[loop] for collective, loop in IN_C.items() if collective in name]
        ratio = f", {middle / median(in_c[0]):.3f} times C" if in_c and not fake else ""
        print(f"{name:45s} {middle:7.3f} us ({low:.3f} to {high:.3f}){ratio}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=301)
    parser.add_argument("--calls", type=int, default=200, help="calls in a batch, at most 1,000")
    parser.add_argument("--gate", type=float, default=GATE, help="length of the gate, in pilot batches; 0: no gate")
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
            measured = calls(group, device, Path(directory))
            gc.disable()
            times = measure_without_device(measured, arguments.batches, arguments.calls)
        else:
            local_rank = int(os.environ.get("LOCAL_RANK", "0"))
            device = open_device("cuda", local_rank, sharing="RANK" in os.environ)
            with device.streams.stream(device.streams.new_stream()):
                measured = calls(group, device, Path(directory))
                gc.disable()
                times, lost = measure(device, measured, arguments.batches, arguments.calls, arguments.gate)
    if dist.get_rank() == 0:
        report(device, times, lost, fake=arguments.fake)
    # The end of the process ends the communicators; the public API and the nccl4py transport share one.
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
