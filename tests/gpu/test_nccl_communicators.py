"""Both communicators over the real NCCL with one rank, which needs no launch and has every call path."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.communicators.bare_transport import RecordedCommunicator
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.errors import NcclError
from nccl_bench.transports.device import Device, open_device
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl_library import LibrarySource


@pytest.fixture(scope="module")
def device() -> Device:
    return open_device("cuda", 0)


def test_the_library_is_the_one_that_torch_loaded(device: Device) -> None:
    transport = device.transport
    assert isinstance(transport, NcclTransport)
    assert transport.library.source is LibrarySource.LOADED
    assert transport.version == int("{}{:02d}{:02d}".format(*torch.cuda.nccl.version()))


@pytest.mark.parametrize("build", [StreamFreeCommunicator, DedicatedStreamCommunicator])
@pytest.mark.parametrize("op", list(RedOp))
def test_one_rank_alone_gets_its_input_back(
    build: type[StreamFreeCommunicator], op: RedOp, one_rank: dist.ProcessGroup, device: Device
) -> None:
    communicator = build(one_rank, device)
    given = torch.arange(1, 9, dtype=torch.bfloat16, device="cuda")
    torch.cuda.synchronize()
    in_place = given.clone()
    torch.cuda.synchronize()
    communicator.all_reduce(in_place, op)
    outputs = [in_place, communicator.outplace_all_reduce(given, op=op)]
    for call in (
        lambda out: communicator.all_gather(out, given),
        lambda out: communicator.all_gather(out, given, sizes=[8]),
        lambda out: communicator.reduce_scatter(out, given, op),
        lambda out: communicator.reduce_scatter(out, given, op, sizes=[8]),
        lambda out: communicator.all_to_all(out, given),
        lambda out: communicator.broadcast(given, 0, out),
        lambda out: communicator.reduce(given, 0, op, out),
        lambda out: communicator.gather(out, given, 0),
        lambda out: communicator.send_recv(out, given, 0, 0),
        lambda out: communicator.cp_all_gather_into_tensor(out, given, torch.cuda.current_stream()),
    ):
        out = torch.full_like(given, -1)
        torch.cuda.synchronize()
        call(out)
        torch.cuda.synchronize()
        outputs.append(out)
    for out in outputs:
        assert torch.equal(out, given)
    communicator.close()
    communicator.close()


def test_a_refusal_by_nccl_names_the_function_and_the_reason(one_rank: dist.ProcessGroup, device: Device) -> None:
    communicator = StreamFreeCommunicator(one_rank, device)
    with pytest.raises(NcclError, match="ncclBroadcast") as raised:
        device.transport.broadcast(0, 0, 8, 7, 99, communicator._comm, 0)
    assert "invalid argument" in str(raised.value)
    communicator.abort()


@pytest.mark.gpus(2)
def test_a_communicator_runs_on_its_own_devices_stream_whichever_device_is_current(
    one_rank: dist.ProcessGroup,
) -> None:
    second = open_device("cuda", 1)
    communicator = RecordedCommunicator(one_rank, second)
    side = second.streams.new_stream()
    tensor = torch.ones(4, device="cuda:1")
    torch.cuda.synchronize(1)
    with torch.cuda.stream(side):
        # Current on device 1 is the side stream, and device 0 becomes the current device.
        torch.cuda.set_device(0)
        call = communicator.prepare(lambda: communicator.all_reduce(tensor))
        assert call.args[-1] == side.cuda_stream != 0
        communicator.all_reduce(tensor)
    torch.cuda.synchronize(1)
    assert tensor.tolist() == [1, 1, 1, 1]
    torch.cuda.set_device(1)
    communicator.close()
    torch.cuda.set_device(0)
