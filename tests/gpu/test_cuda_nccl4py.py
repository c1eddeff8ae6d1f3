"""The bindings by ctypes and by nccl4py, and nccl4py's public API, side by side over the real NCCL.

One rank needs no launch and has every call path. The sweep and the verification test two ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.communicators.nccl4py import Nccl4pyCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.errors import InvalidArgumentError, NcclError
from nccl_bench.transports.device import Device, open_device
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl4py import VERSION, Nccl4pyTransport


def _installed() -> str:
    try:
        return metadata.version("nccl4py")
    except metadata.PackageNotFoundError:
        return "missing"


pytestmark = pytest.mark.skipif(_installed() != VERSION, reason=f"needs nccl4py {VERSION}, which is {_installed()}")

# Called as `call(communicator, out, given, op)`.
CALLS: dict[str, Callable[[Any, Tensor, Tensor, RedOp], object]] = {
    "all_reduce": lambda c, out, given, op: c.all_reduce(out.copy_(given), op),
    "outplace_all_reduce": lambda c, out, given, op: c.outplace_all_reduce(given, out, op),
    "all_gather": lambda c, out, given, op: c.all_gather(out, given),
    "all_gather with sizes": lambda c, out, given, op: c.all_gather(out, given, sizes=[len(given)]),
    "reduce_scatter": lambda c, out, given, op: c.reduce_scatter(out, given, op),
    "reduce_scatter with sizes": lambda c, out, given, op: c.reduce_scatter(out, given, op, sizes=[len(given)]),
    "all_to_all": lambda c, out, given, op: c.all_to_all(out, given),
    "broadcast": lambda c, out, given, op: c.broadcast(given, 0, out),
    "reduce": lambda c, out, given, op: c.reduce(given, 0, op, out),
    "send_recv": lambda c, out, given, op: c.send_recv(out, given, 0, 0),
}
KINDS = ["ctypes", "nccl4py", "public API"]


@pytest.fixture(scope="module")
def device() -> Device:
    return open_device("cuda", 0)


@pytest.fixture(scope="module")
def nccl4py_device(device: Device) -> Device:
    assert isinstance(device.transport, NcclTransport)
    return replace(device, transport=Nccl4pyTransport(device.transport.library))


@pytest.fixture(scope="module")
def communicators(one_rank: dist.ProcessGroup, device: Device, nccl4py_device: Device) -> Iterator[dict[str, Any]]:
    made: dict[str, Any] = {
        "ctypes": StreamFreeCommunicator(one_rank, device),
        "nccl4py": StreamFreeCommunicator(one_rank, nccl4py_device),
        "public API": Nccl4pyCommunicator(one_rank, device),
    }
    assert list(made) == KINDS
    yield made
    for communicator in made.values():
        communicator.close()
        communicator.close()


def test_both_bindings_run_the_libnccl_that_torch_loaded(device: Device, nccl4py_device: Device) -> None:
    by_ctypes, by_nccl4py = device.transport, nccl4py_device.transport
    assert isinstance(by_ctypes, NcclTransport)
    assert isinstance(by_nccl4py, Nccl4pyTransport)
    assert by_nccl4py.version == by_ctypes.version
    assert by_nccl4py.describe()["path"] == by_ctypes.describe()["path"]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [name for name in DTYPES if not name.startswith("float8")])
def test_every_binding_has_the_same_result(communicators: dict[str, Any], name: str, dtype: str) -> None:
    given = torch.arange(1, 9, device="cuda").to(getattr(torch, dtype))
    torch.cuda.synchronize()
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    for op in RedOp:
        outputs = {}
        for kind, communicator in communicators.items():
            with torch.cuda.stream(side):
                out = torch.zeros_like(given)
                CALLS[name](communicator, out, given, op)
            side.synchronize()
            outputs[kind] = out.tolist()
        assert outputs == dict.fromkeys(KINDS, given.tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_every_operation_waits_for_the_current_stream(communicators: dict[str, Any], kind: str, name: str) -> None:
    given, out = torch.zeros(8, device="cuda"), torch.zeros(8, device="cuda")
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    CALLS[name](communicators[kind], out, given, RedOp.SUM)  # The first call may take long.
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(20_000_000)  # type: ignore[no-untyped-call]  # 10 ms, which the default stream would not wait for.
        given.fill_(3)
        CALLS[name](communicators[kind], out, given, RedOp.SUM)
        assert not side.query()
    side.synchronize()
    assert out.tolist() == [3.0] * 8


@pytest.mark.parametrize("kind", KINDS)
def test_calls_of_every_binding_can_be_captured_in_a_graph(communicators: dict[str, Any], kind: str) -> None:
    given, out = torch.zeros(8, device="cuda"), torch.zeros(8, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        communicators[kind].all_gather(out, given)
    given.fill_(5)
    graph.replay()
    torch.cuda.synchronize()
    assert out.tolist() == [5.0] * 8
    graph.reset()


def test_both_bindings_raise_the_same_message_when_nccl_refuses_a_call(device: Device, nccl4py_device: Device) -> None:
    messages = []
    for transport in (device.transport, nccl4py_device.transport):
        comm = transport.init_rank(1, transport.unique_id(), 0)
        with pytest.raises(NcclError, match="ncclBroadcast returned 4") as raised:
            transport.broadcast(0, 0, 8, 7, 99, comm, 0)
        messages.append(str(raised.value))
        transport.abort(comm)
    assert messages[0] == messages[1]


def test_a_refusal_by_the_public_api_is_an_argument_error(communicators: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^nccl4py refused allgather: "):
        communicators["public API"].all_gather(torch.zeros(8, device="cuda"), torch.zeros(8).cuda().half())


def test_set_up_calls_work_in_both_bindings(device: Device, nccl4py_device: Device) -> None:
    for transport in (device.transport, nccl4py_device.transport):
        comm = transport.init_rank(1, transport.unique_id(), 0)
        ptr = transport.mem_alloc(2**21)
        window = transport.window_register(comm, ptr, 2**21)
        if window is not None:
            transport.window_deregister(comm, window)
        transport.mem_free(ptr)
        transport.destroy(comm)
