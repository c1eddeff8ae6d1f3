"""The group coordinator, in both generations: which backend gets what on which stream, and what capturing means."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.catalog.routes import ROUTES, Backend, Mode, Routes, override
from nccl_bench.communicators import coordinator as coordinator_module
from nccl_bench.communicators.coordinator import GroupCoordinator, LegacyGroupCoordinator
from nccl_bench.communicators.torch_distributed import ProcessGroupCommunicator
from nccl_bench.errors import DisabledError, InvalidArgumentError, NcclError
from nccl_bench.streams import cpu
from nccl_bench.transports.device import Device, open_device
from tests.support.communicator_calls import COMPLETE_CALLS, EVERY_CALL, HALF_CALLS, raw_bytes, tensors_for
from tests.support.communicators import CommunicatorMaker, assert_follows_the_current_stream, streams_used
from tests.support.fake_nccl import Call, FakeNccl
from tests.support.stream_control import PATIENCE_S, Gate, PlantedError, finishes_within, record_stream_calls

BOTH_GENERATIONS = pytest.mark.parametrize(
    ("kind", "options"),
    [
        (GroupCoordinator, {}),
        (LegacyGroupCoordinator, {}),
        (LegacyGroupCoordinator, {"use_current_stream": True}),
    ],
    ids=["stream-free", "legacy", "legacy with use_current_stream"],
)
ROUTED = [*COMPLETE_CALLS, *HALF_CALLS]
# What the table calls them, where that is another name.
ROWS = {
    "outplace_all_reduce": "all_reduce",
    "outplace_all_reduce into out": "all_reduce",
    "all_gather with sizes": "all_gatherv",
    "reduce_scatter with sizes": "reduce_scatterv",
}
ON_THE_COMMUNICATOR = override(["eager=communicator"])

Kind = type[GroupCoordinator]
Options = dict[str, bool]


def row(name: str) -> str:
    return ROWS.get(name, EVERY_CALL[name].method)


class DeviceGroup:
    """Stands in for torch.distributed, which has no NCCL here: notes the calls, and that it was closed."""

    untraced_path = ""

    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.closed = 0

    def close(self) -> None:
        self.closed += 1

    def _require_enabled(self) -> None:
        assert not self.closed

    def __getattr__(self, name: str) -> Callable[..., None]:
        signature = inspect.signature(getattr(ProcessGroupCommunicator, name))

        def note(*args: Any, **options: Any) -> None:
            bound = signature.bind(self, *args, **options)
            bound.apply_defaults()
            self.calls.append((name, {key: _identity(value) for key, value in bound.arguments.items()}))

        return note


def _identity(value: object) -> object:
    return id(value) if isinstance(value, torch.Tensor | DeviceGroup) else value


@pytest.fixture
def over_fake(one_rank: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch) -> CommunicatorMaker:
    """Makes coordinators in a pretended world of four, between a fake libnccl and a stand-in for torch.distributed."""
    monkeypatch.setattr(coordinator_module, "ProcessGroupCommunicator", DeviceGroup)
    return CommunicatorMaker(one_rank, fake, monkeypatch)


@pytest.fixture
def over_gloo(one_rank: dist.ProcessGroup) -> Iterator[Callable[..., Any]]:
    """Makes coordinators in a world of one, really over Gloo, and closes them."""
    made: list[GroupCoordinator] = []

    def make(kind: Kind, **options: Any) -> Any:
        made.append(kind(one_rank, open_device("cpu", 0), **options))
        return made[-1]

    yield make
    for coordinator in made:
        coordinator.close()


# Where operations go


def carriers(coordinator: Any, name: str, fake: FakeNccl) -> set[Backend]:
    """The backends that one call of an operation reaches."""
    fake.reset()
    coordinator.device_group.calls.clear()
    EVERY_CALL[name].call(coordinator, tensors_for(coordinator))
    reached = {Backend.TORCH} if coordinator.device_group.calls else set()
    return reached | ({Backend.COMMUNICATOR} if fake.calls() else set())


def check_goes_where_the_table_says(coordinator: Any, routes: Routes, fake: FakeNccl) -> None:
    def eagerly() -> None:
        for name in ROUTED:
            assert carriers(coordinator, name, fake) == {routes[row(name)][Mode.EAGER]}, name

    eagerly()
    with coordinator.graph_capture():
        for name in ROUTED:
            assert carriers(coordinator, name, fake) == {routes[row(name)][Mode.GRAPH]}, name
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
def test_every_operation_goes_where_the_table_says(
    over_fake: CommunicatorMaker, fake: FakeNccl, kind: Kind, options: Options, overrides: list[str]
) -> None:
    routes = override(overrides)
    check_goes_where_the_table_says(over_fake(kind, routes=routes, **options), routes, fake)


class IgnoresTheMode(GroupCoordinator):
    def _carrier(self, operation: str) -> Any:
        return self.device_group if self._routes[operation][Mode.EAGER] is Backend.TORCH else self.communicator


class IgnoresTheTable(GroupCoordinator):
    def _carrier(self, operation: str) -> Any:
        return self.device_group if self._mode is Mode.EAGER else self.communicator


@pytest.mark.parametrize("mutant", [IgnoresTheMode, IgnoresTheTable])
def test_the_check_catches_a_coordinator_that_goes_elsewhere(
    over_fake: CommunicatorMaker, fake: FakeNccl, mutant: Kind
) -> None:
    routes = override(["all_gather.eager=communicator"])
    with pytest.raises(AssertionError):
        check_goes_where_the_table_says(over_fake(mutant, routes=routes), routes, fake)


@BOTH_GENERATIONS
def test_without_routes_it_has_the_defaults(
    over_fake: CommunicatorMaker, fake: FakeNccl, kind: Kind, options: Options
) -> None:
    check_goes_where_the_table_says(over_fake(kind, **options), ROUTES, fake)


@BOTH_GENERATIONS
@pytest.mark.parametrize(
    ("overrides", "on"),
    [([], False), (["graph=torch"], False), (["eager=communicator"], True), (["recv.eager=communicator"], True)],
)
def test_outside_of_graphs_the_communicator_is_on_where_the_table_uses_it(
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


def test_switched_off_where_the_table_uses_it_the_communicator_refuses(
    over_fake: CommunicatorMaker, fake: FakeNccl
) -> None:
    coordinator = over_fake(GroupCoordinator)
    with coordinator.graph_capture(), coordinator.change_state(False):
        for name in ROUTED:
            with pytest.raises(DisabledError, match="is disabled"):
                EVERY_CALL[name].call(coordinator, tensors_for(coordinator))
    assert fake.calls() == []
    assert coordinator.device_group.calls == []


# What they are called with


@BOTH_GENERATIONS
@pytest.mark.parametrize("name", [name for name in ROUTED if not name.startswith("outplace")])
def test_torch_gets_the_operation_as_it_was_called_and_no_stream(
    over_fake: CommunicatorMaker, kind: Kind, options: Options, name: str
) -> None:
    coordinator = over_fake(kind, **options)
    tensors = tensors_for(coordinator)
    EVERY_CALL[name].call(coordinator, tensors)
    EVERY_CALL[name].call(coordinator.device_group, tensors)
    through, directly = coordinator.device_group.calls
    assert through == directly


@BOTH_GENERATIONS
@pytest.mark.parametrize("name", [name for name in ROUTED if name != "outplace_all_reduce"])
def test_the_library_gets_what_the_communicator_makes_of_the_operation(
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
@pytest.mark.parametrize("name", ROUTED)
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


class Watched:
    """A communicator that notes the ``stream`` of every operation, or that there was none."""

    def __init__(self, communicator: Any) -> None:
        self.communicator = communicator
        self.streams: list[object] = []

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.communicator, name)
        if name not in {operation.method for operation in EVERY_CALL.values()}:
            return value

        def noted(*args: Any, **options: Any) -> Any:
            self.streams.append(options.get("stream", "no argument"))
            return value(*args, **options)

        return noted


@BOTH_GENERATIONS
@pytest.mark.parametrize("name", ROUTED)
def test_only_the_legacy_one_threads_a_stream_through_the_call(
    over_fake: CommunicatorMaker, kind: Kind, options: Options, name: str
) -> None:
    coordinator = over_fake(kind, routes=ON_THE_COMMUNICATOR, **options)
    coordinator.communicator = watched = Watched(coordinator.communicator)
    caller = cpu.Stream()
    with cpu.stream(caller):
        EVERY_CALL[name].call(coordinator, tensors_for(coordinator))
        with coordinator.graph_capture() as capturing:
            EVERY_CALL[name].call(coordinator, tensors_for(coordinator))
    if kind is GroupCoordinator:
        assert watched.streams == ["no argument"] * 2
    else:
        assert watched.streams == ([None] * 2 if options else [caller, capturing])


# What comes of it, alone in the world


@BOTH_GENERATIONS
@pytest.mark.parametrize("name", COMPLETE_CALLS)
def test_alone_in_the_world_every_operation_is_the_identity(
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


def test_through_torch_an_out_of_place_all_reduce_is_a_copy_ordered_with_the_current_stream(
    over_gloo: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Alone in the world a reduction changes nothing, so this one adds.
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
def test_an_output_that_does_not_fit_is_refused_by_either_backend(
    over_gloo: Callable[..., Any], out: torch.Tensor, says: str, overrides: list[str]
) -> None:
    coordinator = over_gloo(GroupCoordinator, routes=override(overrides))
    with pytest.raises(InvalidArgumentError, match=says):
        coordinator.outplace_all_reduce(torch.ones(4), out)
    assert not out.any()


@BOTH_GENERATIONS
@pytest.mark.parametrize("name", ROUTED)
def test_a_closed_coordinator_refuses_and_touches_nothing(
    over_gloo: Callable[..., Any], kind: Kind, options: Options, name: str
) -> None:
    for overrides in ([], ["eager=communicator"]):
        coordinator = over_gloo(kind, routes=override(overrides), **options)
        tensors = tensors_for(coordinator)
        before = tensors.contents()
        coordinator.close()
        # torch.distributed has no out-of-place form of some, and says so first.
        with pytest.raises((DisabledError, InvalidArgumentError)):
            EVERY_CALL[name].call(coordinator, tensors)
        assert tensors.contents() == before


# Capturing


@BOTH_GENERATIONS
def test_inside_graph_capture_a_stream_of_its_own_is_current(
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
    """A caller's stream that cannot wait, as where a capture was left open on the other one."""

    def wait_stream(self, stream: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")


@BOTH_GENERATIONS
def test_a_capture_stream_that_cannot_be_joined_hides_no_error_of_the_body(
    over_gloo: Callable[..., Any], kind: Kind, options: Options
) -> None:
    coordinator, caller = over_gloo(kind, **options), BrokenStream()
    with pytest.raises(PlantedError) as told, cpu.stream(caller), coordinator.graph_capture():
        raise PlantedError
    assert told.value.__notes__ == [
        "The capture stream could not be joined either: operation not permitted when stream is capturing"
    ]
    # Without another error it is the one.
    with pytest.raises(RuntimeError, match="not permitted"), cpu.stream(caller), coordinator.graph_capture():
        pass
    assert coordinator.communicator.disabled
    assert cpu.current_stream() is cpu.default_stream()


@BOTH_GENERATIONS
def test_its_private_streams_are_those_that_it_keeps(
    over_gloo: Callable[..., Any], kind: Kind, options: Options
) -> None:
    coordinator = over_gloo(kind, **options)
    with coordinator.graph_capture() as capturing:
        pass
    private = coordinator.communicator.stream
    assert coordinator.private_streams() == [capturing] + ([] if private is None else [private])


@BOTH_GENERATIONS
def test_a_capture_within_a_capture_waits_for_nobody(
    over_gloo: Callable[..., Any], kind: Kind, options: Options
) -> None:
    coordinator = over_gloo(kind, **options)
    x = torch.full((4,), 7.0)
    with cpu.stream(cpu.Stream()), coordinator.graph_capture() as stream, coordinator.graph_capture() as same:
        seen = coordinator.outplace_all_reduce(x)
    assert same is stream
    assert finishes_within(stream, PATIENCE_S)
    assert seen.tolist() == [7] * 4


def test_inside_graph_capture_the_legacy_private_stream_is_the_capture_stream(over_fake: CommunicatorMaker) -> None:
    coordinator = over_fake(LegacyGroupCoordinator)
    private = coordinator.communicator.stream
    with coordinator.graph_capture() as stream:
        assert coordinator.communicator.stream is stream
    assert coordinator.communicator.stream is private is not stream


def test_a_closed_coordinator_captures_nothing(over_gloo: Callable[..., Any]) -> None:
    coordinator = over_gloo(GroupCoordinator)
    coordinator.close()
    with pytest.raises(DisabledError, match="is closed and cannot be enabled"), coordinator.graph_capture():
        pytest.fail("the body ran")
    assert cpu.current_stream().handle == 0


# The asynchronous all-gather


def test_the_asynchronous_all_gather_insists_on_a_stream(over_fake: CommunicatorMaker, fake: FakeNccl) -> None:
    coordinator = over_fake(GroupCoordinator)
    tensors = tensors_for(coordinator)
    for on in (False, True):
        with (
            coordinator.change_state(on),
            pytest.raises(InvalidArgumentError, match="got no stream: pass one"),
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
def test_without_a_stream_the_legacy_one_gathers_on_its_private_one(
    over_fake: CommunicatorMaker, fake: FakeNccl, stream: tuple[None, ...]
) -> None:
    legacy, current = over_fake(LegacyGroupCoordinator), over_fake(LegacyGroupCoordinator, use_current_stream=True)
    caller = cpu.Stream()
    with cpu.stream(caller), legacy.change_state(True), current.change_state(True):
        assert gathered_on(legacy, fake, *stream) == legacy.communicator.stream.handle
        assert gathered_on(current, fake, *stream) == caller.handle


@BOTH_GENERATIONS
def test_with_the_communicator_off_torch_gathers_whatever_the_routes(
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


# Barrier, beginning and end


@BOTH_GENERATIONS
def test_a_barrier_is_on_the_control_group_and_touches_no_stream(
    over_gloo: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: Kind, options: Options
) -> None:
    coordinator, caller = over_gloo(kind, **options), cpu.Stream()
    met: list[object] = []
    barrier = dist.barrier

    def noted(group: dist.ProcessGroup) -> None:
        met.append(group)
        barrier(group=group)

    monkeypatch.setattr(dist, "barrier", noted)
    gate = Gate(caller)  # which the barrier does not wait for
    with cpu.stream(caller), monkeypatch.context() as patched:
        ordering = record_stream_calls(patched)
        coordinator.barrier()
    assert not caller.query()
    gate.open()
    assert ordering == []
    assert met == [coordinator.group]


@BOTH_GENERATIONS
def test_it_has_the_groups_rank_and_size_and_no_stream_to_be_ordered_with(
    over_fake: CommunicatorMaker, kind: Kind, options: Options
) -> None:
    coordinator = over_fake(kind, **options)
    assert (coordinator.rank, coordinator.world_size, coordinator.stream) == (1, 4, None)


@BOTH_GENERATIONS
def test_closing_closes_both_backends_once(
    over_fake: CommunicatorMaker, fake: FakeNccl, kind: Kind, options: Options
) -> None:
    coordinator = over_fake(kind, **options)
    coordinator.close()
    coordinator.close()
    assert [call.function for call in fake.calls()] == ["ncclCommDestroy"]
    assert coordinator.device_group.closed == 1
    assert coordinator.communicator.disabled


@BOTH_GENERATIONS
def test_a_communicator_that_cannot_be_destroyed_does_not_keep_torch_s_group_open(
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
def test_where_the_communicator_cannot_be_made_torch_s_group_is_closed_again(
    over_fake: CommunicatorMaker,
    fake: FakeNccl,
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
    options: Options,
    function: str,
) -> None:
    made: list[DeviceGroup] = []

    class Noted(DeviceGroup):
        def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
            super().__init__(group, device)
            made.append(self)

    monkeypatch.setattr(coordinator_module, "ProcessGroupCommunicator", Noted)
    fake.fail_next(function, 6)
    with pytest.raises(NcclError, match=f"{function} returned 6"):
        over_fake(kind, world_size=1, **options)
    assert [group.closed for group in made] == [1]
