"""A rig of one rank over Gloo, whose control has another rank that is only pretended."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.device import Device
from nccl_bench.transports.gloo import GlooTransport
from nccl_bench.verify.rig import Rig
from tests.support.rig_ranks import CELL, TwoRanks


@pytest.fixture(scope="module")
def device() -> Device:
    streams = CpuStreams()
    return Device(streams=streams, transport=GlooTransport(streams))


@pytest.fixture
def make(device: Device, one_rank: dist.ProcessGroup) -> Iterator[Callable[[ArmProbe], Rig]]:
    """Yield a function that makes rigs, and close their arms."""
    made: list[Arm] = []

    def make(cell: ArmProbe) -> Rig:
        def new_arm() -> Arm:
            made.append(Arm(cell.arm, one_rank, device))
            return made[-1]

        return Rig(
            arm_probe=cell,
            device=device,
            device_spec=DEVICES["cpu"],
            control=TwoRanks(rank=1),
            get_shared_arm=new_arm,
            make_arm=new_arm,
            announce_trial=lambda trial: None,
        )

    yield make
    for arm in made:
        arm.close()


@pytest.fixture
def rig(make: Callable[[ArmProbe], Rig]) -> Rig:
    return make(CELL)
