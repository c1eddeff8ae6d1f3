"""What the tests of communicators, transports and arms share: a world of one, tensors, every operation, and gates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.streams import cpu
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.device import Device
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl_library import LibrarySource, NcclLibrary
from tests.support.fake_nccl import FakeNccl

# Long enough to never matter to a test that passes; a deadlock fails instead of hanging the suite.
PATIENCE_S = 10
RANK = 1  # of this process, where a world of four is pretended
COLUMNS = 3


@contextmanager
def gloo_world() -> Iterator[dist.ProcessGroup]:
    """torch.distributed, with this process as its only rank."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        group = dist.group.WORLD
        assert group is not None
        yield group
    finally:
        dist.destroy_process_group()


def nccl_device(library: Path) -> Device:
    """libnccl, a fake one, over the CPU's streams."""
    transport = NcclTransport(NcclLibrary(path=str(library), source=LibrarySource.ARGUMENT))
    return Device(streams=CpuStreams(), transport=transport)


def pretend_ranks(monkeypatch: pytest.MonkeyPatch, world_size: int = 4, rank: int = RANK) -> None:
    """Let communicators that are made from now on believe in ``world_size`` ranks."""
    monkeypatch.setattr(dist, "get_rank", lambda group: rank)
    monkeypatch.setattr(dist, "get_world_size", lambda group: world_size)


class Tensors:
    """What operations take. ``part`` is one rank's share of ``whole``; the ``out_`` ones are poisoned."""

    def __init__(self, rank: int, world_size: int, dtype: torch.dtype = torch.float32, op: RedOp = RedOp.SUM) -> None:
        self.op = op
        self.sizes = [2] if world_size == 1 else [1, 2, 0, 5]
        self.dst, self.src = (rank + 1) % world_size, (rank - 1) % world_size
        self.part, self.out_part = _filled(self.sizes[rank], dtype), _poisoned(self.sizes[rank], dtype)
        self.whole, self.out_whole = _filled(sum(self.sizes), dtype), _poisoned(sum(self.sizes), dtype)

    def contents(self) -> list[list[int]]:
        """Every byte of every tensor."""
        return [raw(tensor) for tensor in (self.part, self.out_part, self.whole, self.out_whole)]


def _filled(rows: int, dtype: torch.dtype) -> Tensor:
    return torch.arange(1, rows * COLUMNS + 1, dtype=torch.float32).to(dtype).view(rows, COLUMNS)


def _poisoned(rows: int, dtype: torch.dtype) -> Tensor:
    return torch.full((rows, COLUMNS), 120.0).to(dtype)


def raw(tensor: Tensor) -> list[int]:
    """The bytes of a tensor."""
    return tensor.contiguous().view(torch.uint8).flatten().tolist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One way to call a communicator. In a world of one, tensor ``target`` then holds what ``source`` held."""

    method: str
    call: Callable[..., object]
    source: str = "part"
    target: str = "part"
    reduces: bool = False


# By name, each called as `call(communicator, tensors, **stream)`.
OPERATIONS = {
    "all_reduce": Operation(method="all_reduce", call=lambda c, t, **s: c.all_reduce(t.part, t.op, **s), reduces=True),
    "outplace_all_reduce": Operation(
        method="outplace_all_reduce", call=lambda c, t, **s: c.outplace_all_reduce(t.part, op=t.op, **s), reduces=True
    ),
    "outplace_all_reduce into out": Operation(
        method="outplace_all_reduce",
        call=lambda c, t, **s: c.outplace_all_reduce(t.part, t.out_part, t.op, **s),
        target="out_part",
        reduces=True,
    ),
    "all_gather": Operation(
        method="all_gather", call=lambda c, t, **s: c.all_gather(t.out_whole, t.part, **s), target="out_whole"
    ),
    "all_gather with sizes": Operation(
        method="all_gather",
        call=lambda c, t, **s: c.all_gather(t.out_whole, t.part, t.sizes, **s),
        target="out_whole",
    ),
    "reduce_scatter": Operation(
        method="reduce_scatter",
        call=lambda c, t, **s: c.reduce_scatter(t.out_part, t.whole, t.op, **s),
        source="whole",
        target="out_part",
        reduces=True,
    ),
    "reduce_scatter with sizes": Operation(
        method="reduce_scatter",
        call=lambda c, t, **s: c.reduce_scatter(t.out_part, t.whole, t.op, t.sizes, **s),
        source="whole",
        target="out_part",
        reduces=True,
    ),
    "all_to_all": Operation(
        method="all_to_all",
        call=lambda c, t, **s: c.all_to_all(t.out_whole, t.whole, **s),
        source="whole",
        target="out_whole",
    ),
    "broadcast": Operation(method="broadcast", call=lambda c, t, **s: c.broadcast(t.part, t.src, **s)),
    "broadcast into out": Operation(
        method="broadcast", call=lambda c, t, **s: c.broadcast(t.part, t.src, t.out_part, **s), target="out_part"
    ),
    "reduce": Operation(method="reduce", call=lambda c, t, **s: c.reduce(t.part, t.dst, t.op, **s), reduces=True),
    "reduce into out": Operation(
        method="reduce",
        call=lambda c, t, **s: c.reduce(t.part, t.dst, t.op, t.out_part, **s),
        target="out_part",
        reduces=True,
    ),
    "send_recv": Operation(
        method="send_recv",
        call=lambda c, t, **s: c.send_recv(t.out_part, t.part, t.dst, t.src, **s),
        target="out_part",
    ),
}
# Only half of something, so nothing arrives by them alone.
HALVES = {
    "send": Operation(method="send", call=lambda c, t, **s: c.send(t.part, t.dst, **s)),
    "recv": Operation(method="recv", call=lambda c, t, **s: c.recv(t.out_part, t.src, **s)),
}


EVERY_OPERATION = {
    **OPERATIONS,
    **HALVES,
    "cp_all_gather_into_tensor": Operation(
        method="cp_all_gather_into_tensor",
        call=lambda c, t, stream: c.cp_all_gather_into_tensor(t.out_whole, t.part, stream),
    ),
    "cp_all_gather_into_tensor with sizes": Operation(
        method="cp_all_gather_into_tensor",
        call=lambda c, t, stream: c.cp_all_gather_into_tensor(t.out_whole, t.part, stream, t.sizes),
    ),
}
ON_A_STREAM = [name for name in EVERY_OPERATION if name.startswith("cp_")]
METHODS = {operation.method for operation in EVERY_OPERATION.values()}


class Maker:
    """Makes communicators in a pretended world over a fake libnccl, and empties the library's log."""

    def __init__(self, group: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch) -> None:
        self.device = nccl_device(fake.path)
        self._group, self._fake, self._monkeypatch = group, fake, monkeypatch

    def __call__(self, kind: Callable[..., Any], world_size: int = 4, **options: Any) -> Any:
        """One of ``kind``."""
        with self._monkeypatch.context() as patched:
            if world_size > 1:
                pretend_ranks(patched, world_size)
            made = kind(self._group, self.device, **options)
        self._fake.reset()
        return made


def tensors_of(communicator: Any, dtype: torch.dtype = torch.float32, op: RedOp = RedOp.SUM) -> Tensors:
    """Tensors for a communicator's rank and world."""
    return Tensors(communicator.rank, communicator.world_size, dtype, op)


def streams_used(communicator: Any, name: str, fake: FakeNccl, **stream: Any) -> set[int | None]:
    """The handles that the library gets from one call of an operation."""
    fake.reset()
    EVERY_OPERATION[name].call(communicator, tensors_of(communicator), **stream)
    calls = [call for call in fake.calls() if not call.function.startswith("ncclGroup")]
    assert calls
    return {call.stream for call in calls}


def check_follows_the_current_stream(communicator: Any, name: str, fake: FakeNccl) -> None:
    """The operation runs on the stream that is current at the call, inside and after nested ones too."""
    outer, inner = cpu.Stream(), cpu.Stream()
    got = [streams_used(communicator, name, fake)]
    with cpu.stream(outer):
        got.append(streams_used(communicator, name, fake))
        with cpu.stream(inner):
            got.append(streams_used(communicator, name, fake))
        got.append(streams_used(communicator, name, fake))
    got.append(streams_used(communicator, name, fake))
    assert got == [{0}, {outer.handle}, {inner.handle}, {outer.handle}, {0}]


class PlantedError(Exception):
    """What tests raise inside ``with`` blocks and on streams."""


def fail() -> None:
    """Raise it."""
    raise PlantedError


class Gate:
    """Holds a stream back until it is opened."""

    def __init__(self, stream: cpu.Stream) -> None:
        self._opened = threading.Event()
        stream.submit(self._pass)

    def _pass(self) -> None:
        assert self._opened.wait(PATIENCE_S), "nobody opened the gate"

    def open(self) -> None:
        self._opened.set()


def settles(stream: cpu.Stream, seconds: float = 0.05) -> bool:
    """Whether ``stream`` gets to its end within ``seconds``, without waiting longer than it needs."""
    deadline = time.monotonic() + seconds
    while not stream.query() and time.monotonic() < deadline:
        time.sleep(0.001)
    return stream.query()


def watch_ordering(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of everything that is queued, ordered or waited for on the CPU's streams from now on."""
    seen: list[str] = []

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def noted(*args: Any) -> Any:
            seen.append(f"{owner.__name__.rpartition('.')[2]}.{name}")
            return original(*args)

        monkeypatch.setattr(owner, name, noted)

    for name in ("submit", "wait_stream", "wait_event", "record_event", "synchronize"):
        watch(cpu.Stream, name)
    for name in ("record", "wait", "synchronize"):
        watch(cpu.Event, name)
    watch(cpu, "synchronize")
    return seen
