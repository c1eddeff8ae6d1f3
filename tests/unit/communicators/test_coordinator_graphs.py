"""A coordinator's ``graph_capture``: its stream, its order with the caller's stream, and what it restores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import torch

from nccl_bench.catalog.routes import Mode
from nccl_bench.communicators.coordinator import GroupCoordinator, LegacyGroupCoordinator
from nccl_bench.errors import DisabledError
from nccl_bench.streams import cpu
from tests.support.coordinators import BOTH_GENERATIONS
from tests.support.stream_control import (
    PATIENCE_S,
    Gate,
    PlantedError,
    finishes_within,
)

Kind = type[GroupCoordinator]
Options = dict[str, bool]


# Regression tests of the refactor: a graph is captured on the coordinator's own stream with the communicator enabled.
# Everything is restored afterwards.


def snapshot(coordinator: Any) -> tuple[object, ...]:
    """Return what ``graph_capture`` changes: current stream, state, private stream, and the backend in use."""
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


@BOTH_GENERATIONS
def test_graph_capture_is_undone_whatever_happens_inside(
    over_gloo: Callable[..., Any], kind: Kind, options: Options
) -> None:
    check_graph_capture_restores(over_gloo(kind, **options))


@pytest.mark.parametrize("mutant", [RestoresOnTheWayOutAlone, LeavesTheCommunicatorOn, KeepsItsPrivateStream])
def test_the_check_catches_a_capture_that_leaves_something_behind(over_gloo: Callable[..., Any], mutant: Kind) -> None:
    with pytest.raises(AssertionError), cpu.stream(cpu.Stream()):
        check_graph_capture_restores(over_gloo(mutant))


# The capture stream


@BOTH_GENERATIONS
def test_inside_graph_capture_the_coordinator_s_own_stream_is_current(
    over_gloo: Callable[..., Any], kind: Kind, options: Options
) -> None:
    coordinator, caller = over_gloo(kind, **options), cpu.Stream()
    with cpu.stream(caller), coordinator.graph_capture() as stream:
        assert cpu.current_stream() is stream
        assert stream.handle not in (0, caller.handle)
    with coordinator.graph_capture() as again:
        assert again is stream
    with over_gloo(kind, **options).graph_capture() as another:
        assert another is not stream


@BOTH_GENERATIONS
def test_the_private_streams_are_the_capture_stream_and_that_of_the_communicator(
    over_gloo: Callable[..., Any], kind: Kind, options: Options
) -> None:
    coordinator = over_gloo(kind, **options)
    with coordinator.graph_capture() as capturing:
        pass
    private = coordinator.communicator.stream
    assert coordinator.private_streams() == [capturing] + ([] if private is None else [private])


@BOTH_GENERATIONS
def test_the_capture_stream_first_waits_for_the_current_one(
    over_gloo: Callable[..., Any], kind: Kind, options: Options
) -> None:
    coordinator, caller = over_gloo(kind, **options), cpu.Stream()
    x = torch.zeros(4)
    gate = Gate(caller)
    with cpu.stream(caller):
        caller.submit(x.fill_, 7)
        with coordinator.graph_capture() as stream:
            seen = coordinator.outplace_all_reduce(x)
            overtook = finishes_within(stream)
    gate.open()
    caller.synchronize()
    assert not overtook
    assert seen.tolist() == [7] * 4


@BOTH_GENERATIONS
@pytest.mark.parametrize("raises", [False, True])
def test_the_caller_waits_for_the_capture_stream_on_the_way_out(
    over_gloo: Callable[..., Any], kind: Kind, options: Options, raises: bool
) -> None:
    coordinator, caller = over_gloo(kind, **options), cpu.Stream()
    x, seen = torch.full((4,), 7.0), torch.zeros(4)

    copy = torch.zeros(4)
    with cpu.stream(caller):
        with suppress(PlantedError), coordinator.graph_capture() as stream:
            gate = Gate(stream)
            coordinator.outplace_all_reduce(x, seen)
            if raises:
                raise PlantedError
        caller.submit(copy.copy_, seen)
    overtook = finishes_within(caller)
    gate.open()
    caller.synchronize()
    assert not overtook
    assert copy.tolist() == [7] * 4


class BrokenStream(cpu.Stream):
    """A caller's stream that cannot wait, as if a capture had been left open on the other stream."""

    def wait_stream(self, stream: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")


@BOTH_GENERATIONS
def test_a_capture_stream_that_cannot_be_joined_does_not_hide_the_body_s_error(
    over_gloo: Callable[..., Any], kind: Kind, options: Options
) -> None:
    coordinator, caller = over_gloo(kind, **options), BrokenStream()
    with pytest.raises(PlantedError) as raised, cpu.stream(caller), coordinator.graph_capture():
        raise PlantedError
    assert raised.value.__notes__ == [
        "After this error, the capture stream could not be joined: operation not permitted when stream is capturing"
    ]
    # If the body raises nothing, the failure to join is the error.
    with pytest.raises(RuntimeError, match="not permitted"), cpu.stream(caller), coordinator.graph_capture():
        pass
    assert coordinator.communicator.disabled
    assert cpu.current_stream() is cpu.default_stream()


@BOTH_GENERATIONS
def test_a_capture_within_a_capture_waits_for_nothing(
    over_gloo: Callable[..., Any], kind: Kind, options: Options
) -> None:
    coordinator = over_gloo(kind, **options)
    x = torch.full((4,), 7.0)
    with cpu.stream(cpu.Stream()), coordinator.graph_capture() as stream, coordinator.graph_capture() as same:
        seen = coordinator.outplace_all_reduce(x)
    assert same is stream
    assert finishes_within(stream, PATIENCE_S)
    assert seen.tolist() == [7] * 4


def test_a_closed_coordinator_refuses_to_capture(over_gloo: Callable[..., Any]) -> None:
    coordinator = over_gloo(GroupCoordinator)
    coordinator.close()
    with pytest.raises(DisabledError, match="is closed and cannot be enabled"), coordinator.graph_capture():
        pytest.fail("the body ran")
    assert cpu.current_stream().handle == 0
