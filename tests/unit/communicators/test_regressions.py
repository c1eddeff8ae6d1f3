"""What the removal of a communicator's own stream must not break: the regression tests that its review asked for.

Each block guards one part of the change and says which. The detectors are shown to detect: what they look for is
planted in communicators that have that defect and no other.
"""

from __future__ import annotations

import functools
import gc
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.catalog.arms import COORDINATORS
from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.routes import Mode
from nccl_bench.communicators.coordinator import GroupCoordinator, LegacyGroupCoordinator
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.over_transport import TransportCommunicator
from nccl_bench.communicators.registry import BUILDERS, build
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.errors import DisabledError, InvalidArgumentError
from nccl_bench.streams import cpu
from nccl_bench.transports.device import Device, open_device
from tests.support.communicator_calls import (
    CALLED_METHODS,
    CALLS_ON_A_GIVEN_STREAM,
    COMPLETE_CALLS,
    EVERY_CALL,
    HALF_CALLS,
    tensors_for,
)
from tests.support.communicators import (
    PRETENDED_RANK,
    CommunicatorMaker,
    assert_follows_the_current_stream,
    nccl_device,
    streams_used,
)
from tests.support.fake_nccl import FakeNccl
from tests.support.stream_control import PATIENCE_S, Gate, PlantedError, finishes_within

BOTH = pytest.mark.parametrize("kind", [StreamFreeCommunicator, DedicatedStreamCommunicator])
BOTH_COORDINATORS = pytest.mark.parametrize("kind", [GroupCoordinator, LegacyGroupCoordinator])
ON_THE_CURRENT_STREAM = [*COMPLETE_CALLS, *HALF_CALLS]
WITH_SIZES = [name for name in EVERY_CALL if name.endswith("with sizes")]

Kind = type[TransportCommunicator]
Coordinate = Callable[[type[GroupCoordinator]], Any]


@pytest.fixture
def device(fake: FakeNccl) -> Device:
    return nccl_device(fake.path)


@pytest.fixture
def make(one_rank: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch) -> CommunicatorMaker:
    """Makes a communicator of a kind in a pretended world of four, and empties the library's log."""
    return CommunicatorMaker(one_rank, fake, monkeypatch)


@pytest.fixture
def coordinate(one_rank: dist.ProcessGroup) -> Iterator[Coordinate]:
    """Makes coordinators of a kind over Gloo, and closes them."""
    made: list[GroupCoordinator] = []

    def coordinate(kind: type[GroupCoordinator]) -> Any:
        made.append(kind(one_rank, open_device("cpu", 0)))
        return made[-1]

    yield coordinate
    for coordinator in made:
        coordinator.close()


# The communicator owns no stream: none is kept after construction, and that of the warm-up is released.


def check_warm_up_leaves_no_stream(kind: Kind, group: dist.ProcessGroup, device: Device, fake: FakeNccl) -> None:
    gc.disable()  # what only the cycle collector frees is a leak here
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

    def noted() -> Any:
        stream = new_stream()
        made.append(stream.handle)
        return stream

    monkeypatch.setattr(device.streams, "new_stream", noted)
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


# Every operation runs on the current stream of the communicator's device, fetched at the call and never cached.


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


def test_the_current_stream_is_asked_for_on_the_communicators_own_device(
    one_rank: dist.ProcessGroup, device: Device, fake: FakeNccl
) -> None:
    asked: list[int] = []

    def current_handle(index: int) -> int:
        asked.append(index)
        return 77

    device.streams.index, device.streams.current_handle = 3, current_handle
    communicator = StreamFreeCommunicator(one_rank, device)
    for name in ON_THE_CURRENT_STREAM:
        asked.clear()
        assert streams_used(communicator, name, fake) == {77}
        assert asked == [3], name


# No operation takes a stream but the context-parallel all-gather, where it is mandatory; nor does a flag choose one.


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
    # The generation before it is how this would look if it had stayed.
    assert set(taking_a_stream(DedicatedStreamCommunicator)) == CALLED_METHODS | {"change_state"}


def test_the_coordinator_takes_a_stream_where_it_is_mandatory_and_nowhere_else() -> None:
    assert taking_a_stream(GroupCoordinator) == ["cp_all_gather_into_tensor_async"]
    stream = parameters(GroupCoordinator, "cp_all_gather_into_tensor_async")["stream"]
    assert stream.default is inspect.Parameter.empty
    assert "use_current_stream" not in parameters(GroupCoordinator, "__init__")
    assert "use_current_stream" in parameters(LegacyGroupCoordinator, "__init__")


# The operations are the same as before; uneven `sizes` are honoured.


def check_sizes_are_honoured(communicator: Any, name: str, fake: FakeNccl) -> None:
    """A group of broadcasts or of reduces, one a rank: on rank 1 of 4, whose shares are 1, 2, 0 and 5 rows of 3."""
    tensors = tensors_for(communicator, op=RedOp.MAX)
    fake.reset()
    EVERY_CALL[name].call(
        communicator, tensors, **({"stream": cpu.Stream()} if name in CALLS_ON_A_GIVEN_STREAM else {})
    )
    calls = fake.calls()
    assert [(call.function, call.depth) for call in (calls[0], calls[-1])] == [
        ("ncclGroupStart", 0),
        ("ncclGroupEnd", 1),
    ]
    slices = [(0, 3), (12, 6), (36, 0), (36, 15)]  # bytes from the start, elements
    expected: list[tuple[object, ...]] = []
    for root, (at, count) in enumerate(slices):
        if name.startswith("reduce_scatter"):
            block = tensors.whole.data_ptr() + at
            mine = tensors.out_part.data_ptr() if root == PRETENDED_RANK else block
            expected.append(("ncclReduce", block, mine, count, 7, 2, root))
        else:
            block = tensors.out_whole.data_ptr() + at
            mine = tensors.part.data_ptr() if root == PRETENDED_RANK else block
            expected.append(("ncclBroadcast", mine, block, count, 7, None, root))
    assert [(c.function, c.send, c.recv, c.count, c.dtype, c.op, c.root) for c in calls[1:-1]] == expected


class DropsSizes(StreamFreeCommunicator):
    """Its tensors would do for even blocks too, so nothing else refuses."""

    def _all_gather(self, output: torch.Tensor, input: torch.Tensor, sizes: Any, handle: int) -> None:
        super()._all_gather(output, input, None, handle)

    def _reduce_scatter(self, output: torch.Tensor, input: torch.Tensor, op: RedOp, sizes: Any, handle: int) -> None:
        super()._reduce_scatter(output, input, op, None, handle)


@BOTH
@pytest.mark.parametrize("name", WITH_SIZES)
def test_sizes_are_honoured(make: CommunicatorMaker, fake: FakeNccl, kind: Kind, name: str) -> None:
    check_sizes_are_honoured(make(kind), name, fake)


@pytest.mark.parametrize("name", WITH_SIZES)
def test_the_check_catches_sizes_that_are_dropped(make: CommunicatorMaker, fake: FakeNccl, name: str) -> None:
    with pytest.raises(AssertionError):
        check_sizes_are_honoured(make(DropsSizes), name, fake)


# Enabling and disabling is undone on the way out of the region: under an exception, nested, and with None.


def check_restores_its_state(communicator: Any) -> None:
    stream = communicator.stream
    assert not communicator.disabled
    with communicator.change_state(False):
        assert communicator.disabled
        with communicator.change_state(True):
            assert not communicator.disabled
            with communicator.change_state(False):
                assert communicator.disabled
            assert not communicator.disabled
        assert communicator.disabled
        with communicator.change_state():
            assert not communicator.disabled
        assert communicator.disabled
    assert not communicator.disabled
    with pytest.raises(PlantedError), communicator.change_state(False):
        raise PlantedError
    assert not communicator.disabled
    if stream is not None:
        with pytest.raises(PlantedError), communicator.change_state(stream=cpu.Stream()):
            raise PlantedError
        assert communicator.stream is stream


class ForgetsOnAnException(StreamFreeCommunicator):
    """Leaves the state changed when the block raises, as engines' communicators did."""

    @contextmanager
    def change_state(self, enable: bool | None = None) -> Iterator[None]:
        before, self.disabled = self.disabled, not (self.available if enable is None else enable)
        yield
        self.disabled = before


class ForgetsTheStreamOnAnException(DedicatedStreamCommunicator):
    @contextmanager
    def change_state(self, enable: bool | None = None, stream: Any = None) -> Iterator[None]:
        before = self.stream
        with TransportCommunicator.change_state(self, enable):
            self.stream = before if stream is None else stream
            yield
            self.stream = before


class DisablesOnNone(StreamFreeCommunicator):
    @contextmanager
    def change_state(self, enable: bool | None = None) -> Iterator[None]:
        with super().change_state(bool(enable)):
            yield


@BOTH
def test_change_state_is_undone_whatever_happens_inside(make: CommunicatorMaker, kind: Kind) -> None:
    check_restores_its_state(make(kind))


@pytest.mark.parametrize("mutant", [ForgetsOnAnException, ForgetsTheStreamOnAnException, DisablesOnNone])
def test_the_check_catches_a_state_that_is_not_restored(make: CommunicatorMaker, mutant: Kind) -> None:
    with pytest.raises(AssertionError):
        check_restores_its_state(make(mutant))


# What is disabled does nothing: it says so, and its output stays as it was, byte for byte.


@BOTH
@pytest.mark.parametrize("name", EVERY_CALL)
def test_a_disabled_or_closed_communicator_refuses_and_touches_nothing(
    make: CommunicatorMaker, fake: FakeNccl, kind: Kind, name: str
) -> None:
    communicator = make(kind, world_size=1)  # where the fake would really write
    tensors = tensors_for(communicator)
    before = tensors.contents()
    stream = {"stream": cpu.Stream()} if name in CALLS_ON_A_GIVEN_STREAM else {}
    with (
        communicator.change_state(False),
        pytest.raises(DisabledError, match=f"{kind.__name__} is disabled: call it inside"),
    ):
        EVERY_CALL[name].call(communicator, tensors, **stream)
    assert fake.calls() == []
    communicator.close()
    fake.reset()
    with pytest.raises(DisabledError, match=f"{kind.__name__} is closed: make a new one"):
        EVERY_CALL[name].call(communicator, tensors, **stream)
    assert fake.calls() == []
    assert tensors.contents() == before


# torch.distributed has no out-of-place form of what need not have one.
OVER_GLOO = [
    (builder, name)
    for builder in sorted(BUILDERS.keys() - COORDINATORS - {"nccl4py"})
    for name in COMPLETE_CALLS
    if not (builder.startswith("process-group") and (name.startswith("outplace") or name.endswith("into out")))
]


@pytest.mark.parametrize(("builder", "name"), OVER_GLOO)
def test_over_gloo_a_disabled_communicator_touches_nothing_either(
    one_rank: dist.ProcessGroup, builder: str, name: str
) -> None:
    communicator = build(builder, one_rank, open_device("cpu", 0))
    tensors = tensors_for(communicator)
    before = tensors.contents()
    with communicator.change_state(False), pytest.raises(DisabledError):
        COMPLETE_CALLS[name].call(communicator, tensors)
    communicator.close()
    with pytest.raises(DisabledError):
        COMPLETE_CALLS[name].call(communicator, tensors)
    assert tensors.contents() == before


# A graph is captured on the coordinator's own stream with the communicator enabled, and nothing of that outlasts it.


def snapshot(coordinator: Any) -> tuple[object, ...]:
    """What ``graph_capture`` changes: current stream, state, private stream, and where operations go."""
    communicator, torch_carries = (
        coordinator.communicator,
        coordinator._carrier("all_reduce") is coordinator.device_group,
    )
    return cpu.current_stream().handle, communicator.disabled, communicator.stream, torch_carries


def check_graph_capture_restores(coordinator: Any) -> None:
    outer, inner = cpu.Stream(), cpu.Stream()
    with cpu.stream(outer):
        before = snapshot(coordinator)
        with coordinator.graph_capture() as stream:
            private = None if coordinator.communicator.stream is None else stream
            capturing = (stream.handle, False, private, False)
            assert snapshot(coordinator) == capturing
            with cpu.stream(inner), coordinator.graph_capture():
                assert snapshot(coordinator) == capturing
            with pytest.raises(PlantedError), coordinator.graph_capture():
                raise PlantedError
            assert snapshot(coordinator) == capturing
            with coordinator.change_state(False), coordinator.graph_capture():
                assert snapshot(coordinator) == capturing
        assert snapshot(coordinator) == before
        with pytest.raises(PlantedError), coordinator.graph_capture():
            raise PlantedError
        assert snapshot(coordinator) == before
    assert before[:2] == (outer.handle, True)
    cpu.synchronize()


class RestoresOnTheWayOutAlone(GroupCoordinator):
    @contextmanager
    def graph_capture(self) -> Iterator[Any]:
        mode, disabled = self._mode, self.communicator.disabled
        self._mode, self.communicator.disabled = Mode.GRAPH, False
        with self._streams.stream(self._capture_stream):
            yield self._capture_stream
        self._mode, self.communicator.disabled = mode, disabled


class LeavesTheCommunicatorOn(GroupCoordinator):
    @contextmanager
    def graph_capture(self) -> Iterator[Any]:
        with super().graph_capture() as stream:
            yield stream
        self.communicator.disabled = False


class KeepsItsPrivateStream(LegacyGroupCoordinator):
    def _enabled(self, stream: Any) -> Any:
        return self.communicator.change_state(True)


@BOTH_COORDINATORS
def test_graph_capture_is_undone_whatever_happens_inside(coordinate: Coordinate, kind: type[GroupCoordinator]) -> None:
    check_graph_capture_restores(coordinate(kind))


@pytest.mark.parametrize("mutant", [RestoresOnTheWayOutAlone, LeavesTheCommunicatorOn, KeepsItsPrivateStream])
def test_the_check_catches_a_capture_that_leaves_something_behind(
    coordinate: Coordinate, mutant: type[GroupCoordinator]
) -> None:
    with pytest.raises(AssertionError), cpu.stream(cpu.Stream()):
        check_graph_capture_restores(coordinate(mutant))


# The context-parallel all-gather is asynchronous, on the stream it is given, and falls back where the communicator is
# off.


def check_gathers_beside(coordinator: Any) -> None:
    """The call returns, and the caller's stream goes on, while the stream it was given is held back."""
    caller, side = cpu.Stream(), cpu.Stream()
    given, output = torch.arange(6.0), torch.full((6,), -1.0)
    gate = Gate(side)
    with cpu.stream(caller), coordinator.change_state(True):
        coordinator.cp_all_gather_into_tensor_async(output, given, side)
        went_on, before = finishes_within(caller), output.tolist()
    gate.open()
    cpu.synchronize()
    assert went_on
    assert before == [-1] * 6
    assert output.tolist() == given.tolist()


class GathersOnTheCurrentStream(GroupCoordinator):
    def _cp_all_gather(self, output: torch.Tensor, input: torch.Tensor, stream: Any) -> None:
        super()._cp_all_gather(output, input, self._streams.current_stream())


class JoinsAtOnce(GroupCoordinator):
    def _cp_all_gather(self, output: torch.Tensor, input: torch.Tensor, stream: Any) -> None:
        super()._cp_all_gather(output, input, stream)
        self._streams.current_stream().wait_stream(stream)


@BOTH_COORDINATORS
def test_the_asynchronous_all_gather_leaves_the_callers_stream_free(
    coordinate: Coordinate, kind: type[GroupCoordinator]
) -> None:
    check_gathers_beside(coordinate(kind))


@pytest.mark.parametrize("mutant", [GathersOnTheCurrentStream, JoinsAtOnce])
def test_the_check_catches_a_gather_that_is_not_asynchronous(
    coordinate: Coordinate, mutant: type[GroupCoordinator]
) -> None:
    with pytest.raises(AssertionError):
        check_gathers_beside(coordinate(mutant))


@BOTH_COORDINATORS
def test_the_asynchronous_all_gather_falls_back_to_the_ordinary_one_on_the_current_stream(
    coordinate: Coordinate, kind: type[GroupCoordinator]
) -> None:
    coordinator = coordinate(kind)
    caller, side = cpu.Stream(), cpu.Stream()
    given, output, seen = torch.zeros(6), torch.zeros(6), torch.zeros(6)
    elsewhere, gate = Gate(side), Gate(caller)
    with cpu.stream(caller), coordinator.change_state(False):
        caller.submit(given.fill_, 7)
        coordinator.cp_all_gather_into_tensor_async(output, given, side)
        caller.submit(seen.copy_, output)
    gate.open()
    done = finishes_within(caller, PATIENCE_S)  # while the other stream is held back
    elsewhere.open()
    cpu.synchronize()
    assert done
    assert seen.tolist() == [7] * 6
