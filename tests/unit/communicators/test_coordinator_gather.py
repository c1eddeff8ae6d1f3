"""A coordinator's asynchronous all-gather for context parallelism."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nccl_bench.communicators.coordinator import GroupCoordinator, LegacyGroupCoordinator
from nccl_bench.config.routes import override
from nccl_bench.errors import InvalidArgumentError
from nccl_bench.streams import cpu
from tests.support.communicator_calls import (
    tensors_for,
)
from tests.support.communicators import (
    CommunicatorMaker,
)
from tests.support.coordinators import BOTH_GENERATIONS
from tests.support.fake_nccl import FakeNccl
from tests.support.stream_control import (
    PATIENCE_S,
    Gate,
    finishes_within,
)

Kind = type[GroupCoordinator]
Options = dict[str, bool]
ON_THE_COMMUNICATOR = override(["eager=communicator"])


# Regression tests of the refactor: the all-gather is asynchronous, on the stream it is given, and falls back to
# torch.distributed while the communicator is disabled.


def check_gathers_beside(coordinator: Any) -> None:
    """Expect the call to return and the caller's stream to go on while the stream of the gather is held back."""
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


@BOTH_GENERATIONS
def test_the_asynchronous_all_gather_leaves_the_callers_stream_free(
    over_gloo: Callable[..., Any], kind: Kind, options: Options
) -> None:
    check_gathers_beside(over_gloo(kind, **options))


@pytest.mark.parametrize("mutant", [GathersOnTheCurrentStream, JoinsAtOnce])
def test_the_check_catches_a_gather_that_is_not_asynchronous(over_gloo: Callable[..., Any], mutant: Kind) -> None:
    with pytest.raises(AssertionError):
        check_gathers_beside(over_gloo(mutant))


@BOTH_GENERATIONS
def test_the_asynchronous_all_gather_falls_back_to_the_ordinary_one_on_the_current_stream(
    over_gloo: Callable[..., Any], kind: Kind, options: Options
) -> None:
    coordinator = over_gloo(kind, **options)
    caller, side = cpu.Stream(), cpu.Stream()
    given, output, seen = torch.zeros(6), torch.zeros(6), torch.zeros(6)
    elsewhere, gate = Gate(side), Gate(caller)
    with cpu.stream(caller), coordinator.change_state(False):
        caller.submit(given.fill_, 7)
        coordinator.cp_all_gather_into_tensor_async(output, given, side)
        caller.submit(seen.copy_, output)
    gate.open()
    done = finishes_within(caller, PATIENCE_S)  # the other stream is still held back
    elsewhere.open()
    cpu.synchronize()
    assert done
    assert seen.tolist() == [7] * 6


# The stream of the all-gather


def test_the_asynchronous_all_gather_refuses_to_run_without_a_stream(
    over_fake: CommunicatorMaker, fake: FakeNccl
) -> None:
    coordinator = over_fake(GroupCoordinator)
    tensors = tensors_for(coordinator)
    for on in (False, True):
        with (
            coordinator.change_state(on),
            pytest.raises(InvalidArgumentError, match="got no stream: pass a stream"),
        ):
            coordinator.cp_all_gather_into_tensor_async(tensors.out_whole, tensors.part, None)
    assert fake.calls() == []
    assert coordinator.device_group.calls == []


def gathered_on(coordinator: Any, fake: FakeNccl, *stream: object) -> int | None:
    fake.reset()
    tensors = tensors_for(coordinator)
    coordinator.cp_all_gather_into_tensor_async(tensors.out_whole, tensors.part, *stream)
    [call] = fake.calls()
    assert (call.function, call.send, call.recv) == (
        "ncclAllGather",
        tensors.part.data_ptr(),
        tensors.out_whole.data_ptr(),
    )
    return call.stream


@BOTH_GENERATIONS
def test_the_asynchronous_all_gather_runs_on_the_stream_it_is_given(
    over_fake: CommunicatorMaker, fake: FakeNccl, kind: Kind, options: Options
) -> None:
    given = cpu.Stream()
    for coordinator in (over_fake(kind, routes=ON_THE_COMMUNICATOR, **options), over_fake(kind, **options)):
        with cpu.stream(cpu.Stream()), coordinator.change_state(True):
            assert gathered_on(coordinator, fake, given) == given.handle
            with coordinator.graph_capture():
                assert gathered_on(coordinator, fake, given) == given.handle
        assert coordinator.device_group.calls == []


@pytest.mark.parametrize("stream", [(), (None,)], ids=["left away", "None"])
def test_without_a_stream_the_legacy_coordinator_gathers_on_its_private_stream(
    over_fake: CommunicatorMaker, fake: FakeNccl, stream: tuple[None, ...]
) -> None:
    legacy, current = over_fake(LegacyGroupCoordinator), over_fake(LegacyGroupCoordinator, use_current_stream=True)
    caller = cpu.Stream()
    with cpu.stream(caller), legacy.change_state(True), current.change_state(True):
        assert gathered_on(legacy, fake, *stream) == legacy.communicator.stream.handle
        assert gathered_on(current, fake, *stream) == caller.handle


@BOTH_GENERATIONS
def test_with_the_communicator_disabled_torch_gathers_whatever_the_routes(
    over_fake: CommunicatorMaker, fake: FakeNccl, kind: Kind, options: Options
) -> None:
    coordinator = over_fake(kind, routes=ON_THE_COMMUNICATOR, **options)
    tensors = tensors_for(coordinator)
    with coordinator.change_state(False):
        coordinator.cp_all_gather_into_tensor_async(tensors.out_whole, tensors.part, cpu.Stream())
    coordinator.device_group.all_gather(tensors.out_whole, tensors.part)
    through, directly = coordinator.device_group.calls
    assert through == directly
    assert fake.calls() == []
