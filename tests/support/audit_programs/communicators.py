"""Mutants: communicators and coordinators with a defect, or handed the wrong stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from tests.support.audit_programs.kit import CALLS, COUNT, Kit, mutant
from tests.support.defective_communicators import CapturesUnordered, UsesThePreviousStream


class _OnPrivateStream(DedicatedStreamCommunicator):
    """Orders its calls itself, where ``forks`` and ``joins`` return True."""

    calls = 0

    def forks(self, tensor: Tensor) -> bool:
        return True

    def joins(self, tensor: Tensor) -> bool:
        return True

    @contextmanager
    def ordered(self, tensor: Tensor) -> Iterator[None]:
        self.calls += 1
        caller = self._streams.current_stream()
        if self.forks(tensor):
            self.stream.wait_stream(caller)
        yield
        if self.joins(tensor):
            caller.wait_stream(self.stream)

    def all_reduce(self, tensor: Tensor, *options: Any) -> None:
        with self.ordered(tensor):
            super().all_reduce(tensor, *options)  # collective


class _JoinsLateInEveryTenthCall(_OnPrivateStream):
    def joins(self, tensor: Tensor) -> bool:
        return self.calls % 10 != 0


class _ForksForSmallMessages(_OnPrivateStream):
    def forks(self, tensor: Tensor) -> bool:
        return tensor.nbytes <= 256 * 1024


class _JoinsWhatItCached(_OnPrivateStream):
    """Joins the stream of its first call, whatever stream is current."""

    caller: Any = None

    @contextmanager
    def ordered(self, tensor: Tensor) -> Iterator[None]:
        self.caller = self.caller or self._streams.current_stream()
        self.stream.wait_stream(self._streams.current_stream())
        yield
        self.caller.wait_stream(self.stream)


def reduce_repeatedly(kit: Kit, communicator: Any, count: int = COUNT) -> None:
    """Write, reduce and read a tensor, as a loop over layers does."""
    tensor = kit.tensor(count)
    for _ in range(CALLS):
        kit.submit(tensor.fill_, 1)  # write
        communicator.all_reduce(tensor)
        kit.submit(tensor.sum)  # read


@mutant(("collective", "read"))
def has_a_communicator_without_the_join_of_every_tenth_call(kit: Kit) -> None:
    reduce_repeatedly(kit, _JoinsLateInEveryTenthCall(kit.group, kit.device))


@mutant(("write", "collective"))
def has_a_communicator_without_the_fork_of_large_messages(kit: Kit) -> None:
    communicator = _ForksForSmallMessages(kit.group, kit.device)
    reduce_repeatedly(kit, communicator)
    reduce_repeatedly(kit, communicator, count=128 * 1024)


@mutant(("collective", "read"))
def has_a_communicator_that_joins_the_stream_of_its_first_call(kit: Kit) -> None:
    communicator = _JoinsWhatItCached(kit.group, kit.device)
    communicator.all_reduce(kit.tensor())
    with kit.streams.stream(kit.stream()):
        reduce_repeatedly(kit, communicator)


@mutant(("write", "collective on the stream before"), ("collective on the stream before", "read"))
def has_a_communicator_that_uses_the_stream_of_the_call_before(kit: Kit) -> None:
    communicator, tensor = UsesThePreviousStream(kit.group, kit.device), kit.tensor()
    with kit.streams.stream(kit.stream()):
        kit.submit(tensor.fill_, 1)  # write
        communicator.all_reduce(tensor)  # collective on the stream before
        kit.submit(tensor.sum)  # read


@mutant(("write", "collective in graph_capture"), ("collective in graph_capture", "read"))
def has_a_coordinator_whose_capture_stream_is_unordered(kit: Kit) -> None:
    coordinator, tensor = CapturesUnordered(kit.group, kit.device), kit.tensor()
    kit.submit(tensor.fill_, 1)
    coordinator.all_reduce(tensor)
    kit.submit(tensor.add_, 1)  # write
    with coordinator.graph_capture():
        coordinator.all_reduce(tensor)  # collective in graph_capture
    kit.submit(tensor.sum)  # read
    kit.streams.synchronize()
    coordinator.close()


@mutant(("write", "gather"), ("gather", "read"))
def gives_the_coordinators_gather_a_stream_and_orders_nothing(kit: Kit) -> None:
    tensor, gathered = kit.tensor(), kit.tensor()
    kit.submit(tensor.fill_, 1)  # write
    kit.free.cp_all_gather_into_tensor(gathered, tensor, kit.stream())  # gather
    kit.submit(gathered.sum)  # read


@mutant(("write", "collective"), ("collective", "read"))
def hands_over_the_stream_that_was_current_before(kit: Kit) -> None:
    tensor, stream = kit.tensor(), kit.caller
    with kit.streams.stream(kit.stream()):
        kit.submit(tensor.fill_, 1)  # write
        kit.private.all_reduce(tensor, stream=stream)  # collective
        kit.submit(tensor.sum)  # read
