from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.transports.device import Device, open_device


@pytest.fixture
def device() -> Device:
    return open_device("cpu", 0)


@pytest.fixture
def make(one_rank: dist.ProcessGroup, device: Device) -> Iterator[Callable[[str], Arm]]:
    """Yield a maker of arms with one rank, over Gloo, and close what it made."""
    arms: list[Arm] = []

    def make(name: str) -> Arm:
        arms.append(Arm(name, one_rank, device))
        return arms[-1]

    yield make
    for arm in arms:
        arm.close()
