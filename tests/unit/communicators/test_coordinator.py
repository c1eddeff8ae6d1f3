"""The results of a coordinator of either generation, its barrier, and its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.communicators import coordinator as coordinator_module
from nccl_bench.communicators.coordinator import GroupCoordinator
from nccl_bench.config.routes import override
from nccl_bench.errors import DisabledError, InvalidArgumentError, NcclError
from nccl_bench.streams import cpu
from nccl_bench.transports.device import Device
from tests.support.communicator_calls import (
    COMPLETE_CALLS,
    EVERY_CALL,
    raw_bytes,
    tensors_for,
)
from tests.support.communicators import (
    CommunicatorMaker,
)
from tests.support.coordinators import BOTH_GENERATIONS, COORDINATED_CALLS, ROUTED_CALLS, DeviceGroup
from tests.support.fake_nccl import FakeNccl
from tests.support.stream_control import (
    Gate,
    record_stream_calls,
)

Kind = type[GroupCoordinator]
Options = dict[str, bool]


@BOTH_GENERATIONS
def test_a_coordinator_has_the_rank_and_size_of_its_group_and_no_stream(
    over_fake: CommunicatorMaker, kind: Kind, options: Options
) -> None:
    coordinator = over_fake(kind, **options)
    assert (coordinator.rank, coordinator.world_size, coordinator.stream) == (1, 4, None)


@BOTH_GENERATIONS
@pytest.mark.parametrize("name", COORDINATED_CALLS)
def test_with_one_rank_every_operation_is_the_identity(
    over_gloo: Callable[..., Any], kind: Kind, options: Options, name: str
) -> None:
    coordinator, operation, caller = over_gloo(kind, **options), COMPLETE_CALLS[name], cpu.Stream()

    def check() -> None:
        tensors = tensors_for(coordinator)
        untouched = {"part", "whole"} - {operation.target}
        before = {side: raw_bytes(getattr(tensors, side)) for side in (*untouched, operation.source)}
        returned = operation.call(coordinator, tensors)
        cpu.current_stream().synchronize()
        result = returned if isinstance(returned, torch.Tensor) else getattr(tensors, operation.target)
        assert raw_bytes(result) == before[operation.source]
        assert {side: raw_bytes(getattr(tensors, side)) for side in before} == before

    with cpu.stream(caller):
        with coordinator.graph_capture():
            check()
        if name in ("broadcast into out", "reduce into out"):
            with pytest.raises(InvalidArgumentError, match="no out-of-place"):
                operation.call(coordinator, tensors_for(coordinator))
        else:
            check()


def test_outplace_all_reduce_by_torch_copies_in_the_order_of_the_current_stream(
    over_gloo: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # With one rank a reduction changes nothing, so this one adds.
    coordinator, caller = over_gloo(GroupCoordinator), cpu.Stream()
    monkeypatch.setattr(dist, "all_reduce", lambda tensor, **_options: tensor.add_(1))
    given, out = torch.zeros(4), torch.full((4,), 9.0)
    gate = Gate(caller)
    with cpu.stream(caller):
        caller.submit(given.fill_, 7)
        made = coordinator.outplace_all_reduce(given)
        returned = coordinator.outplace_all_reduce(given, out)
    before = out.tolist()
    gate.open()
    caller.synchronize()
    assert before == [9] * 4
    assert returned is out
    assert made.tolist() == out.tolist() == [8] * 4
    assert given.tolist() == [7] * 4


@pytest.mark.parametrize(
    ("out", "says"),
    [
        (torch.zeros(4, dtype=torch.bfloat16), "dtypes torch.bfloat16 and torch.float32"),
        (torch.zeros(3), "has 3 elements and needs 4"),
        (torch.zeros(5), "has 5 elements and needs 4"),
    ],
)
@pytest.mark.parametrize("overrides", [[], ["eager=communicator"]])
def test_both_backends_refuse_an_output_that_does_not_fit(
    over_gloo: Callable[..., Any], out: torch.Tensor, says: str, overrides: list[str]
) -> None:
    coordinator = over_gloo(GroupCoordinator, routes=override(overrides))
    with pytest.raises(InvalidArgumentError, match=says):
        coordinator.outplace_all_reduce(torch.ones(4), out)
    assert not out.any()


@BOTH_GENERATIONS
def test_a_barrier_uses_the_control_group_and_touches_no_stream(
    over_gloo: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: Kind, options: Options
) -> None:
    coordinator, caller = over_gloo(kind, **options), cpu.Stream()
    groups: list[object] = []
    barrier = dist.barrier

    def recorded(group: dist.ProcessGroup) -> None:
        groups.append(group)
        barrier(group=group)

    monkeypatch.setattr(dist, "barrier", recorded)
    gate = Gate(caller)  # the barrier does not wait for this
    with cpu.stream(caller), monkeypatch.context() as patched:
        ordering = record_stream_calls(patched)
        coordinator.barrier()
    assert not caller.query()
    gate.open()
    assert ordering == []
    assert groups == [coordinator.group]


# The end


@BOTH_GENERATIONS
@pytest.mark.parametrize("name", ROUTED_CALLS)
def test_a_closed_coordinator_refuses_and_touches_nothing(
    over_gloo: Callable[..., Any], kind: Kind, options: Options, name: str
) -> None:
    for overrides in ([], ["eager=communicator"]):
        coordinator = over_gloo(kind, routes=override(overrides), **options)
        tensors = tensors_for(coordinator)
        before = tensors.contents()
        coordinator.close()
        # torch.distributed refuses the out-of-place forms that it does not have, before it looks at the state.
        with pytest.raises((DisabledError, InvalidArgumentError)):
            EVERY_CALL[name].call(coordinator, tensors)
        assert tensors.contents() == before


@BOTH_GENERATIONS
def test_close_closes_both_backends_once(
    over_fake: CommunicatorMaker, fake: FakeNccl, kind: Kind, options: Options
) -> None:
    coordinator = over_fake(kind, **options)
    coordinator.close()
    coordinator.close()
    assert [call.function for call in fake.calls()] == ["ncclCommDestroy"]
    assert coordinator.device_group.closed == 1
    assert coordinator.communicator.disabled


@BOTH_GENERATIONS
def test_close_closes_torch_s_group_although_the_communicator_cannot_be_destroyed(
    over_fake: CommunicatorMaker, fake: FakeNccl, kind: Kind, options: Options
) -> None:
    coordinator = over_fake(kind, **options)
    fake.fail_next("ncclCommDestroy", 3)
    with pytest.raises(NcclError, match="ncclCommDestroy returned 3"):
        coordinator.close()
    assert coordinator.device_group.closed == 1
    coordinator.close()
    assert coordinator.device_group.closed == 1


@BOTH_GENERATIONS
@pytest.mark.parametrize("function", ["ncclCommInitRank", "ncclAllReduce"])
def test_construction_closes_torch_s_group_if_the_communicator_cannot_be_made(
    over_fake: CommunicatorMaker,
    fake: FakeNccl,
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
    options: Options,
    function: str,
) -> None:
    made: list[DeviceGroup] = []

    class Recorded(DeviceGroup):
        def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
            super().__init__(group, device)
            made.append(self)

    monkeypatch.setattr(coordinator_module, "ProcessGroupCommunicator", Recorded)
    fake.fail_next(function, 6)
    with pytest.raises(NcclError, match=f"{function} returned 6"):
        over_fake(kind, world_size=1, **options)
    assert [group.closed for group in made] == [1]
