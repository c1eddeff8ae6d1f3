"""The tools of the programs, and the tables in which they stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.audit import Watch, watch
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.streams.base import Streams
from nccl_bench.transports.device import Device

COUNT = 1024
CALLS = 20


class Kit:
    """The device of the programs, and communicators of one rank, which are made once."""

    def __init__(self, device: Device, group: dist.ProcessGroup, torch_group: Any, engines: ModuleType) -> None:
        self.device = device
        self.group = group
        self.torch_group = torch_group  # a group for torch.distributed with tensors of the device
        self.engines = engines  # the module with the stand-ins of the engines' communicators
        self.streams: Streams = device.streams
        self.submit = device.streams.submit
        self.private = DedicatedStreamCommunicator(group, device)
        self.second = DedicatedStreamCommunicator(group, device)
        self.free = StreamFreeCommunicator(group, device)
        self.unretained = DedicatedStreamCommunicator(group, device)  # keeps no tensor alive, as NCCL
        self.unretained._retain = None
        self._private = {device.streams.handle(each.stream) for each in (self.private, self.second, self.unretained)}
        # A tensor that nobody has written, in memory that the next one gets if this one is freed before.
        self.temporary: Callable[[], Tensor] = partial(torch.empty, COUNT, device=self.streams.device)
        if self.streams.device.type == "cpu":
            # A block that Python keeps: a stream can still read it when the tensor is gone.
            self.temporary = partial(torch.frombuffer, bytearray(4 * COUNT), dtype=torch.float32)

    @property
    def caller(self) -> Any:
        """The current stream."""
        return self.streams.current_stream()

    def stream(self) -> Any:
        """Return a stream that no communicator of the kit uses. torch gives its 32 streams out again and again."""
        while True:
            stream = self.streams.new_stream()
            if self.streams.handle(stream) not in self._private:
                return stream

    def tensor(self, count: int = COUNT) -> Tensor:
        """Return a tensor that nobody has written."""
        return torch.empty(count, device=self.streams.device)

    def keep(self, tensor: Tensor, stream: Any) -> None:
        """Keep the memory of a tensor until ``stream`` has done what it has now."""
        if self.streams.device.type == "cuda":
            tensor.record_stream(stream)
        else:
            stream.submit(_nothing, tensor)

    def pinned(self) -> Tensor:
        """Return a tensor of the host, into which the device copies beside the host's work."""
        return torch.empty(COUNT, pin_memory=torch.cuda.is_available())


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A program with a defect."""

    run: Callable[[Kit], None]  # the program
    races: frozenset[tuple[str, str]]  # the pairs of remarks that race


MUTANTS: list[Mutant] = []
RIGHT_PROGRAMS: list[Callable[[Kit], None]] = []


def mutant(*races: tuple[str, str]) -> Callable[[Callable[[Kit], None]], Callable[[Kit], None]]:
    """Add a program to ``MUTANTS``, with the pairs of lines that race."""

    def add(run: Callable[[Kit], None]) -> Callable[[Kit], None]:
        MUTANTS.append(Mutant(run=run, races=frozenset(races)))
        return run

    return add


def right(run: Callable[[Kit], None]) -> Callable[[Kit], None]:
    """Add a program to ``RIGHT_PROGRAMS``."""
    RIGHT_PROGRAMS.append(run)
    return run


def watched(run: Callable[[Kit], None], kit: Kit) -> Watch:
    """Run a program under watch and return the watch."""
    with watch() as finished, kit.streams.stream(kit.stream()):
        run(kit)
    kit.streams.synchronize()
    return finished


def _nothing(*_kept_alive: object) -> None:
    """Do nothing: while this call is in a queue, its arguments stay alive."""
