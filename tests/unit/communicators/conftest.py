"""Communicators and coordinators for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch.distributed as dist

from nccl_bench.communicators import coordinator as coordinator_module
from nccl_bench.communicators.coordinator import GroupCoordinator
from nccl_bench.transports.device import Device, open_device
from tests.support.communicators import CommunicatorMaker, nccl_device
from tests.support.coordinators import DeviceGroup
from tests.support.fake_nccl import FakeNccl


@pytest.fixture
def device(fake: FakeNccl) -> Device:
    """Return a device with the fake libnccl and the CPU's streams."""
    return nccl_device(fake.path)


@pytest.fixture
def make(one_rank: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch) -> CommunicatorMaker:
    """Return a maker of communicators that take themselves for one of four ranks."""
    return CommunicatorMaker(one_rank, fake, monkeypatch)


@pytest.fixture
def over_fake(one_rank: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch) -> CommunicatorMaker:
    """Return a maker of coordinators between a fake libnccl and a stand-in for torch.distributed."""
    monkeypatch.setattr(coordinator_module, "ProcessGroupCommunicator", DeviceGroup)
    return CommunicatorMaker(one_rank, fake, monkeypatch)


@pytest.fixture
def over_gloo(one_rank: dist.ProcessGroup) -> Iterator[Callable[..., Any]]:
    """Yield a maker of coordinators with one rank, over Gloo, and close what it made."""
    made: list[GroupCoordinator] = []

    def make(kind: type[GroupCoordinator], **options: Any) -> Any:
        made.append(kind(one_rank, open_device("cpu", 0), **options))
        return made[-1]

    yield make
    for coordinator in made:
        coordinator.close()
