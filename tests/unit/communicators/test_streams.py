"""The stream that each operation runs on.

The communicator after the refactor owns no stream, takes none, and follows the current stream of its device. The one
before it chooses among the stream given, the current stream and its private stream. The tests of the refactor name
communicators with one defect each, and show that the test detects it.
"""

from __future__ import annotations

import functools
import gc
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.communicators.coordinator import GroupCoordinator, LegacyGroupCoordinator
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.over_transport import TransportCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.errors import InvalidArgumentError
from nccl_bench.streams import cpu
from nccl_bench.transports.device import Device, open_device
from tests.support.communicator_calls import (
    CALLED_METHODS,
    CALLS_ON_A_GIVEN_STREAM,
    CALLS_WITHOUT_A_STREAM,
    COMPLETE_CALLS,
    EVERY_CALL,
    HALF_CALLS,
    tensors_for,
)
from tests.support.communicators import (
    BOTH_POLICIES,
    CommunicatorMaker,
    assert_follows_the_current_stream,
    streams_used,
)
from tests.support.fake_nccl import FakeNccl
from tests.support.stream_control import (
    record_stream_calls,
)

Kind = type[TransportCommunicator]


ON_THE_CURRENT_STREAM = [*COMPLETE_CALLS, *HALF_CALLS]


# Regression tests of the refactor: the communicator owns no stream, and the stream of the warm-up is released.


def check_warm_up_leaves_no_stream(kind: Kind, group: dist.ProcessGroup, device: Device, fake: FakeNccl) -> None:
    gc.disable()  # a stream that only the cycle collector frees counts as a leak
    try:
        communicator = kind(group, device)
        [warm_up] = fake.calls("ncclAllReduce")
        assert warm_up.stream is not None
        with pytest.raises(InvalidArgumentError, match="no CPU stream has handle"):
            device.streams.from_handle(warm_up.stream)
        communicator.close()
    finally:
        gc.enable()


class KeepsTheWarmUpStream(StreamFreeCommunicator):
    def _warm_up(self, stream: Any) -> None:
        self.kept = stream
        super()._warm_up(stream)


class WarmsUpOnTheCurrentStream(StreamFreeCommunicator):
    def _warm_up(self, stream: Any) -> None:
        super()._warm_up(self._streams.current_stream())


def test_the_warm_up_is_on_a_stream_that_is_gone_afterwards(
    one_rank: dist.ProcessGroup, device: Device, fake: FakeNccl
) -> None:
    check_warm_up_leaves_no_stream(StreamFreeCommunicator, one_rank, device, fake)


@pytest.mark.parametrize("mutant", [KeepsTheWarmUpStream, WarmsUpOnTheCurrentStream, DedicatedStreamCommunicator])
def test_the_check_catches_a_stream_that_is_kept(
    one_rank: dist.ProcessGroup, device: Device, fake: FakeNccl, mutant: Kind
) -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_warm_up_leaves_no_stream(mutant, one_rank, device, fake)


def test_over_gloo_too_the_stream_of_the_warm_up_is_gone(
    one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = open_device("cpu", 0)
    made: list[int] = []
    new_stream = device.streams.new_stream

    def recorded() -> Any:
        stream = new_stream()
        made.append(stream.handle)
        return stream

    monkeypatch.setattr(device.streams, "new_stream", recorded)
    gc.disable()
    try:
        communicator = StreamFreeCommunicator(one_rank, device)
        [handle] = made
        with pytest.raises(InvalidArgumentError, match="no CPU stream has handle"):
            device.streams.from_handle(handle)
    finally:
        gc.enable()
    communicator.close()


def test_no_stream_is_among_what_the_communicator_keeps(make: CommunicatorMaker) -> None:
    communicator = make(StreamFreeCommunicator)
    assert communicator.stream is None
    assert not hasattr(communicator, "use_current_stream")
    assert not [value for value in vars(communicator).values() if isinstance(value, cpu.Stream)]


# Regression tests of the refactor: every operation runs on the current stream of the communicator's device. The stream
# is fetched at the call and never cached.


class KeepsTheStreamOfItsConstruction(StreamFreeCommunicator):
    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__(group, device)
        handle = self._current_handle()
        self._current_handle = lambda: handle


class KeepsTheStreamOfItsFirstCall(StreamFreeCommunicator):
    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__(group, device)
        self._current_handle = functools.cache(self._current_handle)


@pytest.mark.parametrize("name", ON_THE_CURRENT_STREAM)
def test_an_operation_runs_on_the_stream_that_is_current_at_the_call(
    make: CommunicatorMaker, fake: FakeNccl, name: str
) -> None:
    assert_follows_the_current_stream(make(StreamFreeCommunicator), name, fake)


@pytest.mark.parametrize("name", ON_THE_CURRENT_STREAM)
@pytest.mark.parametrize(
    "mutant", [KeepsTheStreamOfItsConstruction, KeepsTheStreamOfItsFirstCall, DedicatedStreamCommunicator]
)
def test_the_check_catches_a_communicator_that_keeps_a_stream(
    make: CommunicatorMaker, fake: FakeNccl, name: str, mutant: Kind
) -> None:
    with pytest.raises(AssertionError):
        assert_follows_the_current_stream(make(mutant), name, fake)


def test_the_current_stream_is_that_of_the_communicators_own_device(
    one_rank: dist.ProcessGroup, device: Device, fake: FakeNccl
) -> None:
    indices: list[int] = []

    def current_handle(index: int) -> int:
        indices.append(index)
        return 77

    device.streams.index, device.streams.current_handle = 3, current_handle
    communicator = StreamFreeCommunicator(one_rank, device)
    for name in ON_THE_CURRENT_STREAM:
        indices.clear()
        assert streams_used(communicator, name, fake) == {77}
        assert indices == [3], name


# Regression tests of the refactor: no operation takes a stream but the context-parallel all-gather, where it is
# mandatory. No flag chooses a stream.


def parameters(kind: type, method: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(kind, method)).parameters)


def taking_a_stream(kind: type) -> list[str]:
    public = [name for name, _ in inspect.getmembers(kind, inspect.isfunction) if name[0] != "_"]
    assert {"all_reduce", "send", "change_state", "close"} < set(public)
    return [name for name in public if parameters(kind, name).keys() & {"stream", "use_current_stream"}]


def test_the_communicator_takes_a_stream_where_it_is_mandatory_and_nowhere_else() -> None:
    assert taking_a_stream(StreamFreeCommunicator) == ["cp_all_gather_into_tensor"]
    stream = parameters(StreamFreeCommunicator, "cp_all_gather_into_tensor")["stream"]
    assert stream.default is inspect.Parameter.empty
    assert list(parameters(StreamFreeCommunicator, "__init__")) == ["self", "group", "device"]
    # The communicator before the refactor takes one in every operation of the engine.
    assert {*taking_a_stream(DedicatedStreamCommunicator), *CALLS_WITHOUT_A_STREAM} == CALLED_METHODS | {"change_state"}


def test_the_coordinator_takes_a_stream_where_it_is_mandatory_and_nowhere_else() -> None:
    assert taking_a_stream(GroupCoordinator) == ["cp_all_gather_into_tensor_async"]
    stream = parameters(GroupCoordinator, "cp_all_gather_into_tensor_async")["stream"]
    assert stream.default is inspect.Parameter.empty
    assert "use_current_stream" not in parameters(GroupCoordinator, "__init__")
    assert "use_current_stream" in parameters(LegacyGroupCoordinator, "__init__")


# The communicator before the refactor


@pytest.mark.parametrize("method", sorted(CALLED_METHODS - {*CALLS_WITHOUT_A_STREAM}))
def test_dedicated_stream_differs_in_an_optional_stream_argument_alone(method: str) -> None:
    dedicated, stream_free = (
        parameters(kind, method) for kind in (DedicatedStreamCommunicator, StreamFreeCommunicator)
    )
    assert dedicated.pop("stream").default is None
    stream_free.pop("stream", None)
    assert list(dedicated.values()) == list(stream_free.values())


def test_two_dedicated_stream_communicators_have_different_streams(make: Callable[..., Any]) -> None:
    first, second = make(DedicatedStreamCommunicator), make(DedicatedStreamCommunicator)
    assert len({first.stream.handle, second.stream.handle, 0}) == 3
    assert parameters(DedicatedStreamCommunicator, "__init__")["use_current_stream"].default is False


@pytest.mark.parametrize("name", [*COMPLETE_CALLS, *HALF_CALLS])
def test_dedicated_stream_with_use_current_stream_runs_on_the_current_stream(
    make: Callable[..., Any], fake: FakeNccl, name: str
) -> None:
    assert_follows_the_current_stream(make(DedicatedStreamCommunicator, use_current_stream=True), name, fake)


@pytest.mark.parametrize("name", [*COMPLETE_CALLS, *HALF_CALLS])
def test_dedicated_stream_without_an_argument_runs_on_its_private_stream(
    make: Callable[..., Any], fake: FakeNccl, name: str
) -> None:
    communicator = make(DedicatedStreamCommunicator)
    private = {communicator.stream.handle}
    assert private != {0}
    assert streams_used(communicator, name, fake) == private
    with cpu.stream(cpu.Stream()):
        assert streams_used(communicator, name, fake) == private


@pytest.mark.parametrize("name", [name for name in EVERY_CALL if name not in CALLS_WITHOUT_A_STREAM])
@pytest.mark.parametrize("use_current_stream", [False, True])
def test_dedicated_stream_prefers_the_stream_argument(
    make: Callable[..., Any], fake: FakeNccl, name: str, use_current_stream: bool
) -> None:
    communicator = make(DedicatedStreamCommunicator, use_current_stream=use_current_stream)
    given, swapped = cpu.Stream(), cpu.Stream()
    with cpu.stream(cpu.Stream()), communicator.change_state(stream=swapped):
        assert streams_used(communicator, name, fake, stream=given) == {given.handle}
        assert streams_used(communicator, name, fake, stream=cpu.default_stream()) == {0}


@pytest.mark.parametrize("name", [*COMPLETE_CALLS, *HALF_CALLS])
def test_change_state_swaps_the_private_stream(make: Callable[..., Any], fake: FakeNccl, name: str) -> None:
    communicator = make(DedicatedStreamCommunicator)
    private, outer, inner = communicator.stream.handle, cpu.Stream(), cpu.Stream()
    got = []
    with communicator.change_state(stream=outer):
        got.append(streams_used(communicator, name, fake))
        with communicator.change_state(True, stream=inner), cpu.stream(cpu.Stream()):
            got.append(streams_used(communicator, name, fake))
        with communicator.change_state(True):
            got.append(streams_used(communicator, name, fake))
    got.append(streams_used(communicator, name, fake))
    assert got == [{outer.handle}, {inner.handle}, {outer.handle}, {private}]


# Both communicators


@BOTH_POLICIES
@pytest.mark.parametrize("name", CALLS_ON_A_GIVEN_STREAM)
def test_the_context_parallel_all_gather_runs_on_the_stream_it_is_given(
    make: Callable[..., Any], fake: FakeNccl, kind: Kind, name: str
) -> None:
    communicator, given = make(kind), cpu.Stream()
    with cpu.stream(cpu.Stream()):
        assert streams_used(communicator, name, fake, stream=given) == {given.handle}
        assert streams_used(communicator, name, fake, stream=cpu.default_stream()) == {0}


class Synchronises(StreamFreeCommunicator):
    def all_reduce(self, tensor: torch.Tensor, op: RedOp = RedOp.SUM) -> None:
        super().all_reduce(tensor, op)
        self._streams.current_stream().synchronize()


class ForksAndJoins(DedicatedStreamCommunicator):
    def all_reduce(self, tensor: torch.Tensor, op: RedOp = RedOp.SUM, stream: Any = None) -> None:
        self.stream.wait_stream(self._streams.current_stream())
        super().all_reduce(tensor, op, stream)


def check_orders_nothing(communicator: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = {"stream": cpu.Stream()} if name in CALLS_ON_A_GIVEN_STREAM else {}
    with cpu.stream(cpu.Stream()), monkeypatch.context() as patched:
        ordering = record_stream_calls(patched)
        EVERY_CALL[name].call(communicator, tensors_for(communicator), **stream)
    assert ordering == []


@BOTH_POLICIES
@pytest.mark.parametrize("name", EVERY_CALL)
def test_an_operation_neither_waits_nor_orders_streams(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: Kind, name: str
) -> None:
    check_orders_nothing(make(kind), name, monkeypatch)


@pytest.mark.parametrize("mutant", [Synchronises, ForksAndJoins])
def test_the_check_catches_a_communicator_that_synchronises(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, mutant: Kind
) -> None:
    with pytest.raises(AssertionError):
        check_orders_nothing(make(mutant), "all_reduce", monkeypatch)
