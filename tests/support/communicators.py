"""Communicators over a fake libnccl in this process, which may pretend to be one of several ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.ranks.process import default_group, destroy_group
from nccl_bench.streams import cpu
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.device import Device
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl_library import LibrarySource, NcclLibrary
from tests.support.communicator_calls import EVERY_CALL, tensors_for
from tests.support.fake_nccl import FakeNccl

BOTH_POLICIES = pytest.mark.parametrize("kind", [StreamFreeCommunicator, DedicatedStreamCommunicator])
PRETENDED_RANK = 1  # This process's rank where four ranks are pretended.


@contextmanager
def one_rank_group() -> Iterator[dist.ProcessGroup]:
    """Initialise torch.distributed with this process as its only rank."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield default_group()
    finally:
        destroy_group(default_group())


def nccl_device(library: Path) -> Device:
    """Return a device with the fake libnccl and the CPU's streams."""
    transport = NcclTransport(NcclLibrary(path=str(library), source=LibrarySource.ARGUMENT))
    return Device(streams=CpuStreams(), transport=transport)


def pretend_ranks(monkeypatch: pytest.MonkeyPatch, world_size: int = 4, rank: int = PRETENDED_RANK) -> None:
    """Let communicators made from now on see ``world_size`` ranks."""
    monkeypatch.setattr(dist, "get_rank", lambda group: rank)
    monkeypatch.setattr(dist, "get_world_size", lambda group: world_size)


class CommunicatorMaker:
    """Makes communicators of pretended ranks over a fake libnccl, and empties the library's log."""

    def __init__(self, group: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch) -> None:
        self.device = nccl_device(fake.path)
        self._group, self._fake, self._monkeypatch = group, fake, monkeypatch

    def __call__(self, kind: Callable[..., Any], world_size: int = 4, **options: Any) -> Any:
        """Return a communicator made by ``kind``."""
        with self._monkeypatch.context() as patched:
            if world_size > 1:
                pretend_ranks(patched, world_size)
            made = kind(self._group, self.device, **options)
        self._fake.reset()
        return made


def streams_used(communicator: Any, name: str, fake: FakeNccl, **stream: Any) -> set[int | None]:
    """Return the stream handles that the library gets from one call."""
    fake.reset()
    EVERY_CALL[name].call(communicator, tensors_for(communicator), **stream)
    calls = [call for call in fake.calls() if not call.function.startswith("ncclGroup")]
    assert calls
    return {call.stream for call in calls}


def assert_follows_the_current_stream(communicator: Any, name: str, fake: FakeNccl) -> None:
    """Fail unless a call runs on the stream that is current then, also inside and after nested streams."""
    outer, inner = cpu.Stream(), cpu.Stream()
    got = [streams_used(communicator, name, fake)]
    with cpu.stream(outer):
        got.append(streams_used(communicator, name, fake))
        with cpu.stream(inner):
            got.append(streams_used(communicator, name, fake))
        got.append(streams_used(communicator, name, fake))
    got.append(streams_used(communicator, name, fake))
    assert got == [{0}, {outer.handle}, {inner.handle}, {outer.handle}, {0}]


def called_functions(fake: FakeNccl) -> list[str]:
    """Return the names of the library's functions that were called, in their order."""
    return [call.function for call in fake.calls()]
