"""The package's communicators over Gloo, with their orders and without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.audit import watch
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.streams import cpu
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.device import Device
from nccl_bench.transports.gloo import GlooTransport
from tests.support.audited import found_at

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def device(one_rank: dist.ProcessGroup) -> Device:
    streams = CpuStreams()
    return Device(streams=streams, transport=GlooTransport(streams))


def test_the_stream_free_communicator_has_no_race_on_any_stream(one_rank: dist.ProcessGroup, device: Device) -> None:
    communicator = StreamFreeCommunicator(one_rank, device)
    with watch() as watched:
        for caller in (cpu.default_stream(), cpu.Stream()):
            with cpu.stream(caller):
                tensor, gathered = torch.zeros(8), torch.zeros(8)
                caller.submit(tensor.fill_, 1)
                communicator.all_reduce(tensor)
                communicator.all_gather(gathered, tensor)
                caller.submit(gathered.add_, tensor)
                caller.synchronize()
    assert not watched.races, watched.races


@pytest.mark.parametrize("was_made_before", [True, False])
def test_a_private_stream_without_waits_has_both_races(
    one_rank: dist.ProcessGroup, device: Device, was_made_before: bool
) -> None:
    made: Any = DedicatedStreamCommunicator(one_rank, device) if was_made_before else None
    with watch() as watched:
        communicator = made or DedicatedStreamCommunicator(one_rank, device)
        with cpu.stream(cpu.Stream()) as caller:
            tensor = torch.zeros(8)
            caller.submit(tensor.fill_, 1)  # producer
            communicator.all_reduce(tensor)  # collective
            caller.submit(tensor.add_, 1)  # consumer
    # The constructor of the communicator also runs a collective, whose tensor nobody else uses.
    assert found_at(watched) == {("producer", "collective"), ("collective", "consumer")}


def test_a_private_stream_with_both_waits_has_no_race(one_rank: dist.ProcessGroup, device: Device) -> None:
    communicator = DedicatedStreamCommunicator(one_rank, device)
    with watch() as watched, cpu.stream(cpu.Stream()) as caller:
        for _ in range(3):
            tensor = torch.zeros(8)
            caller.submit(tensor.fill_, 1)
            communicator.stream.wait_stream(caller)
            communicator.all_reduce(tensor)
            caller.wait_stream(communicator.stream)
            caller.submit(tensor.add_, 1)
            del tensor
    assert not watched.races, watched.races
