"""The backend that a coordinator of either generation calls for an operation, and what it passes on."""

from __future__ import annotations

from typing import Any

import pytest

from nccl_bench.catalog.routes import ROUTES, Backend, Mode, Routes
from nccl_bench.communicators.coordinator import GroupCoordinator, LegacyGroupCoordinator
from nccl_bench.config.routes import override
from nccl_bench.errors import DisabledError
from nccl_bench.streams import cpu
from tests.support.communicator_calls import (
    EVERY_CALL,
    tensors_for,
)
from tests.support.communicators import (
    CommunicatorMaker,
    assert_follows_the_current_stream,
    streams_used,
)
from tests.support.coordinators import BOTH_GENERATIONS, ROUTED_CALLS, route_of
from tests.support.fake_nccl import Call, FakeNccl

Kind = type[GroupCoordinator]
Options = dict[str, bool]
ON_THE_COMMUNICATOR = override(["eager=communicator"])


def backends_reached(coordinator: Any, name: str, fake: FakeNccl) -> set[Backend]:
    """Return the backends that one call of an operation reaches."""
    fake.reset()
    coordinator.device_group.calls.clear()
    EVERY_CALL[name].call(coordinator, tensors_for(coordinator))
    reached = {Backend.TORCH} if coordinator.device_group.calls else set()
    return reached | ({Backend.COMMUNICATOR} if fake.calls() else set())


def check_follows_routes(coordinator: Any, routes: Routes, fake: FakeNccl) -> None:
    def eagerly() -> None:
        for name in ROUTED_CALLS:
            assert backends_reached(coordinator, name, fake) == {routes[route_of(name)][Mode.EAGER]}, name

    eagerly()
    with coordinator.graph_capture():
        for name in ROUTED_CALLS:
            assert backends_reached(coordinator, name, fake) == {routes[route_of(name)][Mode.GRAPH]}, name
    eagerly()


@BOTH_GENERATIONS
@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["eager=communicator"],
        ["graph=torch"],
        ["eager=communicator", "graph=torch"],
        ["all_gatherv.eager=communicator", "send.eager=communicator", "reduce_scatter.graph=torch"],
    ],
    ids=",".join,
)
def test_every_operation_goes_to_the_backend_of_its_route(
    over_fake: CommunicatorMaker, fake: FakeNccl, kind: Kind, options: Options, overrides: list[str]
) -> None:
    routes = override(overrides)
    check_follows_routes(over_fake(kind, routes=routes, **options), routes, fake)


class IgnoresTheMode(GroupCoordinator):
    def _carrier(self, operation: str) -> Any:
        return self.device_group if self._routes[operation][Mode.EAGER] is Backend.TORCH else self.communicator


class IgnoresTheTable(GroupCoordinator):
    def _carrier(self, operation: str) -> Any:
        return self.device_group if self._mode is Mode.EAGER else self.communicator


@pytest.mark.parametrize("mutant", [IgnoresTheMode, IgnoresTheTable])
def test_the_check_catches_a_coordinator_that_ignores_its_routes(
    over_fake: CommunicatorMaker, fake: FakeNccl, mutant: Kind
) -> None:
    routes = override(["all_gather.eager=communicator"])
    with pytest.raises(AssertionError):
        check_follows_routes(over_fake(mutant, routes=routes), routes, fake)


@BOTH_GENERATIONS
def test_a_coordinator_has_the_default_routes(
    over_fake: CommunicatorMaker, fake: FakeNccl, kind: Kind, options: Options
) -> None:
    check_follows_routes(over_fake(kind, **options), ROUTES, fake)


@BOTH_GENERATIONS
@pytest.mark.parametrize(
    ("overrides", "on"),
    [([], False), (["graph=torch"], False), (["eager=communicator"], True), (["recv.eager=communicator"], True)],
)
def test_outside_of_graphs_the_communicator_is_enabled_if_a_route_uses_it(
    over_fake: CommunicatorMaker, kind: Kind, options: Options, overrides: list[str], on: bool
) -> None:
    coordinator = over_fake(kind, routes=override(overrides), **options)
    assert coordinator.communicator.disabled is not on
    with coordinator.graph_capture():
        assert not coordinator.communicator.disabled
    assert coordinator.communicator.disabled is not on
    with coordinator.change_state(not on):
        assert coordinator.communicator.disabled is on
    with coordinator.change_state():
        assert not coordinator.communicator.disabled
    assert coordinator.communicator.disabled is not on


def test_a_disabled_communicator_refuses_what_is_routed_to_it(over_fake: CommunicatorMaker, fake: FakeNccl) -> None:
    coordinator = over_fake(GroupCoordinator)
    with coordinator.graph_capture(), coordinator.change_state(False):
        for name in ROUTED_CALLS:
            with pytest.raises(DisabledError, match="is disabled"):
                EVERY_CALL[name].call(coordinator, tensors_for(coordinator))
    assert fake.calls() == []
    assert coordinator.device_group.calls == []


# The arguments of the call


@BOTH_GENERATIONS
@pytest.mark.parametrize("name", [name for name in ROUTED_CALLS if not name.startswith("outplace")])
def test_torch_gets_the_arguments_of_the_call_and_no_stream(
    over_fake: CommunicatorMaker, kind: Kind, options: Options, name: str
) -> None:
    coordinator = over_fake(kind, **options)
    tensors = tensors_for(coordinator)
    EVERY_CALL[name].call(coordinator, tensors)
    EVERY_CALL[name].call(coordinator.device_group, tensors)
    through, directly = coordinator.device_group.calls
    assert through == directly


@BOTH_GENERATIONS
@pytest.mark.parametrize("name", [name for name in ROUTED_CALLS if name != "outplace_all_reduce"])
def test_the_communicator_gets_the_arguments_of_the_call(
    over_fake: CommunicatorMaker, fake: FakeNccl, kind: Kind, options: Options, name: str
) -> None:
    coordinator = over_fake(kind, routes=ON_THE_COMMUNICATOR, **options)
    tensors = tensors_for(coordinator)

    def calls_of(subject: Any) -> list[Call]:
        fake.reset()
        with cpu.stream(stream), coordinator.communicator.change_state(True, **private):
            EVERY_CALL[name].call(subject, tensors)
        return fake.calls()

    stream = cpu.Stream()
    private = {"stream": stream} if kind is LegacyGroupCoordinator else {}
    through = calls_of(coordinator)
    assert through == calls_of(coordinator.communicator) != []


@BOTH_GENERATIONS
@pytest.mark.parametrize("name", ROUTED_CALLS)
def test_the_library_gets_the_current_stream(
    over_fake: CommunicatorMaker, fake: FakeNccl, kind: Kind, options: Options, name: str
) -> None:
    coordinator = over_fake(kind, routes=ON_THE_COMMUNICATOR, **options)
    assert_follows_the_current_stream(coordinator, name, fake)
    other = cpu.Stream()
    with coordinator.graph_capture() as stream:
        assert streams_used(coordinator, name, fake) == {stream.handle}
        with cpu.stream(other):
            assert streams_used(coordinator, name, fake) == {other.handle}


class StreamArgumentRecorder:
    """A layer before a communicator that records the ``stream`` argument of every operation, or that there was none."""

    def __init__(self, communicator: Any) -> None:
        self.communicator = communicator
        self.streams: list[object] = []

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.communicator, name)
        if name not in {operation.method for operation in EVERY_CALL.values()}:
            return value

        def recorded(*args: Any, **options: Any) -> Any:
            self.streams.append(options.get("stream", "no argument"))
            return value(*args, **options)

        return recorded


@BOTH_GENERATIONS
@pytest.mark.parametrize("name", ROUTED_CALLS)
def test_only_the_legacy_coordinator_passes_a_stream(
    over_fake: CommunicatorMaker, kind: Kind, options: Options, name: str
) -> None:
    coordinator = over_fake(kind, routes=ON_THE_COMMUNICATOR, **options)
    coordinator.communicator = recorder = StreamArgumentRecorder(coordinator.communicator)
    caller = cpu.Stream()
    with cpu.stream(caller):
        EVERY_CALL[name].call(coordinator, tensors_for(coordinator))
        with coordinator.graph_capture() as capturing:
            EVERY_CALL[name].call(coordinator, tensors_for(coordinator))
    if kind is GroupCoordinator:
        assert recorder.streams == ["no argument"] * 2
    else:
        assert recorder.streams == ([None] * 2 if options else [caller, capturing])
