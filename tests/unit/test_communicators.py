"""The communicators over a fake libnccl: which stream each operation runs on, their state, and how they come and go."""

from __future__ import annotations

import functools
import gc
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from communicator_rig import (
    HALVES,
    OPERATIONS,
    RANK,
    Gate,
    Operation,
    Tensors,
    gloo_world,
    nccl_device,
    pretend_ranks,
    raw,
    watch_ordering,
)

from nccl_bench.collectives import DTYPES, RedOp
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.over_transport import TransportCommunicator
from nccl_bench.communicators.registry import BUILDERS, build
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.errors import DisabledError, InvalidArgumentError, NcclError
from nccl_bench.streams import cpu
from nccl_bench.transports.device import Device, open_device
from nccl_bench.transports.gloo import GlooTransport
from tests.fake_nccl import Call, FakeNccl

BOTH = pytest.mark.parametrize("kind", [StreamFreeCommunicator, DedicatedStreamCommunicator])
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

Kind = type[TransportCommunicator]


class PlantedError(Exception):
    pass


def fail() -> None:
    raise PlantedError


@pytest.fixture(scope="module")
def group() -> Iterator[dist.ProcessGroup]:
    with gloo_world() as group:
        yield group


@pytest.fixture
def device(fake: FakeNccl) -> Device:
    return nccl_device(fake.path)


@pytest.fixture
def make(
    group: dist.ProcessGroup, device: Device, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Makes a communicator of a kind in a pretended world of four, and empties the library's log."""

    def make(kind: Callable[..., Any], world_size: int = 4, **options: bool) -> Any:
        with monkeypatch.context() as patched:
            if world_size > 1:
                pretend_ranks(patched, world_size)
            communicator = kind(group, device, **options)
        fake.reset()
        return communicator

    return make


def tensors_of(communicator: Any, dtype: torch.dtype = torch.float32, op: RedOp = RedOp.SUM) -> Tensors:
    return Tensors(communicator.rank, communicator.world_size, dtype, op)


def streams_used(communicator: Any, name: str, fake: FakeNccl, **stream: Any) -> set[int | None]:
    """The handles that the library gets from one call of an operation."""
    fake.reset()
    EVERY_OPERATION[name].call(communicator, tensors_of(communicator), **stream)
    calls = [call for call in fake.calls() if not call.function.startswith("ncclGroup")]
    assert calls
    return {call.stream for call in calls}


# Stream identity


def check_follows_the_current_stream(communicator: Any, name: str, fake: FakeNccl) -> None:
    outer, inner = cpu.Stream(), cpu.Stream()
    got = [streams_used(communicator, name, fake)]
    with cpu.stream(outer):
        got.append(streams_used(communicator, name, fake))
        with cpu.stream(inner):
            got.append(streams_used(communicator, name, fake))
        got.append(streams_used(communicator, name, fake))
    got.append(streams_used(communicator, name, fake))
    assert got == [{0}, {outer.handle}, {inner.handle}, {outer.handle}, {0}]


class KeepsTheStreamOfItsConstruction(StreamFreeCommunicator):
    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__(group, device)
        handle = self._current_handle()
        self._current_handle = lambda: handle


class KeepsTheStreamOfItsFirstCall(StreamFreeCommunicator):
    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__(group, device)
        self._current_handle = functools.cache(self._current_handle)


@pytest.mark.parametrize("name", [*OPERATIONS, *HALVES])
@pytest.mark.parametrize(
    ("kind", "options"),
    [(StreamFreeCommunicator, {}), (DedicatedStreamCommunicator, {"use_current_stream": True})],
    ids=["stream-free", "dedicated with use_current_stream"],
)
def test_an_operation_runs_on_the_stream_that_is_current_at_the_call(
    make: Callable[..., Any], fake: FakeNccl, name: str, kind: Kind, options: dict[str, bool]
) -> None:
    check_follows_the_current_stream(make(kind, **options), name, fake)


@pytest.mark.parametrize("name", [*OPERATIONS, *HALVES])
@pytest.mark.parametrize(
    "mutant", [KeepsTheStreamOfItsConstruction, KeepsTheStreamOfItsFirstCall, DedicatedStreamCommunicator]
)
def test_the_check_catches_a_communicator_that_keeps_a_stream(
    make: Callable[..., Any], fake: FakeNccl, name: str, mutant: Kind
) -> None:
    with pytest.raises(AssertionError):
        check_follows_the_current_stream(make(mutant), name, fake)


def test_the_current_stream_is_asked_for_on_the_communicators_own_device(
    group: dist.ProcessGroup, device: Device, fake: FakeNccl
) -> None:
    asked: list[int] = []

    def current_handle(index: int) -> int:
        asked.append(index)
        return 77

    device.streams.index, device.streams.current_handle = 3, current_handle
    communicator = StreamFreeCommunicator(group, device)
    for name in [*OPERATIONS, *HALVES]:
        asked.clear()
        assert streams_used(communicator, name, fake) == {77}
        assert asked == [3], name


@pytest.mark.parametrize("name", [*OPERATIONS, *HALVES])
def test_without_an_argument_the_dedicated_one_runs_on_its_private_stream(
    make: Callable[..., Any], fake: FakeNccl, name: str
) -> None:
    communicator = make(DedicatedStreamCommunicator)
    private = {communicator.stream.handle}
    assert private != {0}
    assert streams_used(communicator, name, fake) == private
    with cpu.stream(cpu.Stream()):
        assert streams_used(communicator, name, fake) == private


@pytest.mark.parametrize("name", EVERY_OPERATION)
@pytest.mark.parametrize("use_current_stream", [False, True])
def test_the_stream_given_to_the_dedicated_one_wins(
    make: Callable[..., Any], fake: FakeNccl, name: str, use_current_stream: bool
) -> None:
    communicator = make(DedicatedStreamCommunicator, use_current_stream=use_current_stream)
    given, swapped = cpu.Stream(), cpu.Stream()
    with cpu.stream(cpu.Stream()), communicator.change_state(stream=swapped):
        assert streams_used(communicator, name, fake, stream=given) == {given.handle}
        assert streams_used(communicator, name, fake, stream=cpu.default_stream()) == {0}


@BOTH
@pytest.mark.parametrize("name", ON_A_STREAM)
def test_the_context_parallel_all_gather_runs_on_the_stream_it_is_given(
    make: Callable[..., Any], fake: FakeNccl, kind: Kind, name: str
) -> None:
    communicator, given = make(kind), cpu.Stream()
    with cpu.stream(cpu.Stream()):
        assert streams_used(communicator, name, fake, stream=given) == {given.handle}
        assert streams_used(communicator, name, fake, stream=cpu.default_stream()) == {0}


@pytest.mark.parametrize("name", [*OPERATIONS, *HALVES])
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


class Synchronises(StreamFreeCommunicator):
    def all_reduce(self, tensor: torch.Tensor, op: RedOp = RedOp.SUM) -> None:
        super().all_reduce(tensor, op)
        self._streams.current_stream().synchronize()


class ForksAndJoins(DedicatedStreamCommunicator):
    def all_reduce(self, tensor: torch.Tensor, op: RedOp = RedOp.SUM, stream: Any = None) -> None:
        self.stream.wait_stream(self._streams.current_stream())
        super().all_reduce(tensor, op, stream)


def check_orders_nothing(communicator: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = {"stream": cpu.Stream()} if name in ON_A_STREAM else {}
    with cpu.stream(cpu.Stream()), monkeypatch.context() as patched:
        ordering = watch_ordering(patched)
        EVERY_OPERATION[name].call(communicator, tensors_of(communicator), **stream)
    assert ordering == []


@BOTH
@pytest.mark.parametrize("name", EVERY_OPERATION)
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


def parameters(kind: type, method: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(kind, method)).parameters)


def test_the_stream_free_one_takes_a_stream_where_it_is_mandatory_and_nowhere_else(make: Callable[..., Any]) -> None:
    public = [name for name, _ in inspect.getmembers(StreamFreeCommunicator, inspect.isfunction) if name[0] != "_"]
    assert set(public) > METHODS | {"change_state", "close", "group_start", "register_comm_window_raw"}
    taking = [name for name in public if "stream" in parameters(StreamFreeCommunicator, name)]
    assert taking == ["cp_all_gather_into_tensor"]
    stream = parameters(StreamFreeCommunicator, "cp_all_gather_into_tensor")["stream"]
    assert stream.default is inspect.Parameter.empty
    assert list(parameters(StreamFreeCommunicator, "__init__")) == ["self", "group", "device"]
    communicator = make(StreamFreeCommunicator)
    assert communicator.stream is None
    assert not hasattr(communicator, "use_current_stream")
    assert not [value for value in vars(communicator).values() if isinstance(value, cpu.Stream)]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_dedicated_one_takes_an_optional_stream_everywhere_and_differs_in_nothing_else(method: str) -> None:
    dedicated, stream_free = (
        parameters(kind, method) for kind in (DedicatedStreamCommunicator, StreamFreeCommunicator)
    )
    assert dedicated.pop("stream").default is None
    stream_free.pop("stream", None)
    assert list(dedicated.values()) == list(stream_free.values())


def test_two_dedicated_ones_have_streams_of_their_own(make: Callable[..., Any]) -> None:
    one, other = make(DedicatedStreamCommunicator), make(DedicatedStreamCommunicator)
    assert len({one.stream.handle, other.stream.handle, 0}) == 3
    assert parameters(DedicatedStreamCommunicator, "__init__")["use_current_stream"].default is False


# What reaches the library


def expected_calls(name: str, t: Tensors) -> list[tuple[str, dict[str, int]]]:
    """Function and arguments on rank 1 of 4, whose slices along dimension 0 are 1, 2, 0 and 5 rows of 3 float32."""
    part, out_part = t.part.data_ptr(), t.out_part.data_ptr()
    whole, out_whole = t.whole.data_ptr(), t.out_whole.data_ptr()
    slices = [(0, 3), (12, 6), (36, 0), (36, 15)]  # bytes from the start, elements
    broadcasts = [
        (
            "ncclBroadcast",
            {"send": part if r == RANK else out_whole + at, "recv": out_whole + at, "count": n, "root": r},
        )
        for r, (at, n) in enumerate(slices)
    ]
    reduces = [
        ("ncclReduce", {"send": whole + at, "recv": out_part if r == RANK else whole + at, "count": n, "root": r})
        for r, (at, n) in enumerate(slices)
    ]
    to_next, from_previous = {"send": part, "count": 6, "peer": 2}, {"recv": out_part, "count": 6, "peer": 0}
    group, end = [("ncclGroupStart", {})], [("ncclGroupEnd", {})]
    return {
        "all_reduce": [("ncclAllReduce", {"send": part, "recv": part, "count": 6})],
        "outplace_all_reduce into out": [("ncclAllReduce", {"send": part, "recv": out_part, "count": 6})],
        "all_gather": [("ncclAllGather", {"send": part, "recv": out_whole, "count": 6})],
        "all_gather with sizes": [*group, *broadcasts, *end],
        "cp_all_gather_into_tensor": [("ncclAllGather", {"send": part, "recv": out_whole, "count": 6})],
        "cp_all_gather_into_tensor with sizes": [*group, *broadcasts, *end],
        "reduce_scatter": [("ncclReduceScatter", {"send": whole, "recv": out_part, "count": 6})],
        "reduce_scatter with sizes": [*group, *reduces, *end],
        "all_to_all": [("ncclAlltoAll", {"send": whole, "recv": out_whole, "count": 6})],
        "broadcast": [("ncclBroadcast", {"send": part, "recv": part, "count": 6, "root": 0})],
        "broadcast into out": [("ncclBroadcast", {"send": part, "recv": out_part, "count": 6, "root": 0})],
        "reduce": [("ncclReduce", {"send": part, "recv": part, "count": 6, "root": 2})],
        "reduce into out": [("ncclReduce", {"send": part, "recv": out_part, "count": 6, "root": 2})],
        "send": [("ncclSend", to_next)],
        "recv": [("ncclRecv", from_previous)],
        "send_recv": [*group, ("ncclSend", to_next), ("ncclRecv", from_previous), *end],
    }[name]


REDUCING = {"ncclAllReduce", "ncclReduceScatter", "ncclReduce"}


@BOTH
@pytest.mark.parametrize("name", [name for name in EVERY_OPERATION if name != "outplace_all_reduce"])
def test_an_operation_is_these_calls_of_the_library(
    make: Callable[..., Any], fake: FakeNccl, kind: Kind, name: str
) -> None:
    communicator = make(kind)
    stream = cpu.Stream()
    given = {"stream": stream} if kind is DedicatedStreamCommunicator or name in ON_A_STREAM else {}
    tensors = tensors_of(communicator, op=RedOp.MAX)
    with cpu.stream(stream):
        EVERY_OPERATION[name].call(communicator, tensors, **given)
    [handle] = {call.comm for call in fake.calls()} - {None}
    expected, depth = [], 0
    for function, fields in expected_calls(name, tensors):
        common: dict[str, int | None] = {}
        if not function.startswith("ncclGroup"):
            common = {"dtype": 7, "comm": handle, "stream": stream.handle}
        if function in REDUCING:
            common["op"] = 2
        expected.append(Call(function=function, depth=depth, **fields, **common))
        depth += function == "ncclGroupStart"
    assert fake.calls() == expected


@BOTH
def test_an_out_of_place_all_reduce_makes_its_output(make: Callable[..., Any], fake: FakeNccl, kind: Kind) -> None:
    communicator = make(kind)
    x = torch.ones(2, 5, dtype=torch.bfloat16)
    out = communicator.outplace_all_reduce(x, op=RedOp.AVG)
    [call] = fake.calls()
    assert (call.send, call.recv, call.count, call.dtype, call.op) == (x.data_ptr(), out.data_ptr(), 10, 9, 4)
    assert (out.shape, out.dtype, out is x) == (x.shape, x.dtype, False)
    given = torch.empty_like(x)
    assert communicator.outplace_all_reduce(x, given) is given


def test_rank_0_makes_the_unique_id_and_the_others_get_it(
    make: Callable[..., Any], group: dist.ProcessGroup, device: Device, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch
) -> None:
    StreamFreeCommunicator(group, device)
    made = device.transport.unique_id()
    assert [call.id for call in fake.calls("ncclCommInitRank")] == [made]

    fake.reset()
    pretend_ranks(monkeypatch)
    sent = bytes(range(255, 127, -1))
    monkeypatch.setattr(
        dist, "broadcast", lambda buffer, src, group: buffer.copy_(torch.tensor(list(sent), dtype=torch.uint8))
    )
    StreamFreeCommunicator(group, device)
    assert fake.calls("ncclGetUniqueId") == []
    [init] = fake.calls("ncclCommInitRank")
    assert (init.id, init.rank, init.nranks) == (sent, RANK, 4)


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", RedOp)
def test_alone_in_the_world_every_operation_is_the_identity(
    make: Callable[..., Any], kind: Kind, dtype: str, op: RedOp
) -> None:
    communicator = make(kind, world_size=1)
    for name, operation in OPERATIONS.items():
        tensors = tensors_of(communicator, getattr(torch, dtype), op)
        source = raw(getattr(tensors, operation.source))
        operation.call(communicator, tensors)
        assert raw(getattr(tensors, operation.target)) == source, name


# State


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
def test_change_state_is_undone_whatever_happens_inside(make: Callable[..., Any], kind: Kind) -> None:
    check_restores_its_state(make(kind))


@pytest.mark.parametrize("mutant", [ForgetsOnAnException, ForgetsTheStreamOnAnException, DisablesOnNone])
def test_the_check_catches_a_state_that_is_not_restored(make: Callable[..., Any], mutant: Kind) -> None:
    with pytest.raises(AssertionError):
        check_restores_its_state(make(mutant))


@BOTH
@pytest.mark.parametrize("name", EVERY_OPERATION)
def test_a_disabled_or_closed_communicator_refuses_and_touches_nothing(
    make: Callable[..., Any], fake: FakeNccl, kind: Kind, name: str
) -> None:
    communicator = make(kind, world_size=1)  # where the fake would really write
    tensors = tensors_of(communicator)
    before = tensors.contents()
    stream = {"stream": cpu.Stream()} if name in ON_A_STREAM else {}
    with (
        communicator.change_state(False),
        pytest.raises(DisabledError, match=f"{kind.__name__} is disabled here: call it inside"),
    ):
        EVERY_OPERATION[name].call(communicator, tensors, **stream)
    assert fake.calls() == []
    communicator.close()
    fake.reset()
    with pytest.raises(DisabledError, match=f"{kind.__name__} is closed: make a new one"):
        EVERY_OPERATION[name].call(communicator, tensors, **stream)
    assert fake.calls() == []
    assert tensors.contents() == before


# torch.distributed has no out-of-place form of what need not have one.
OVER_GLOO = [
    (builder, name)
    for builder in BUILDERS
    for name in OPERATIONS
    if not (builder.startswith("process-group") and (name.startswith("outplace") or name.endswith("into out")))
]


@pytest.mark.parametrize(("builder", "name"), OVER_GLOO)
def test_over_gloo_a_disabled_communicator_touches_nothing_either(
    group: dist.ProcessGroup, builder: str, name: str
) -> None:
    communicator = build(builder, group, open_device("cpu", 0))
    tensors = tensors_of(communicator)
    before = tensors.contents()
    with communicator.change_state(False), pytest.raises(DisabledError):  # type: ignore[attr-defined]
        OPERATIONS[name].call(communicator, tensors)
    communicator.close()
    with pytest.raises(DisabledError):
        OPERATIONS[name].call(communicator, tensors)
    assert tensors.contents() == before


@BOTH
def test_what_else_reaches_the_library_is_refused_too(make: Callable[..., Any], fake: FakeNccl, kind: Kind) -> None:
    communicator = make(kind)
    with communicator.change_state(False):
        for call in (communicator.group_start, lambda: communicator.register_comm_window_raw(64, 8)):
            with pytest.raises(DisabledError, match="disabled here"):
                call()
        communicator.check_async_error()
        communicator.deregister_comm_window(64)  # what is held may be given back
    communicator.close()
    fake.reset()
    for call in (
        communicator.group_start,
        communicator.check_async_error,
        lambda: communicator.register_comm_window_raw(64, 8),
        lambda: communicator.deregister_comm_window(64),
    ):
        with pytest.raises(DisabledError, match="is closed"):
            call()
    assert fake.calls() == []


@BOTH
def test_a_closed_communicator_cannot_be_enabled(make: Callable[..., Any], kind: Kind) -> None:
    communicator = make(kind)
    communicator.close()
    with pytest.raises(DisabledError, match="is closed and cannot be enabled"), communicator.change_state(True):
        pytest.fail("the body ran")
    with communicator.change_state():
        assert communicator.disabled


@BOTH
@pytest.mark.parametrize("enable", [None, True, False])
def test_closing_inside_change_state_is_for_good(make: Callable[..., Any], kind: Kind, enable: bool | None) -> None:
    communicator = make(kind)
    with communicator.change_state(enable):
        communicator.close()
        assert communicator.disabled
    assert communicator.disabled
    with pytest.raises(DisabledError, match="is closed"):
        communicator.all_reduce(torch.ones(1))


def functions(fake: FakeNccl) -> list[str]:
    return [call.function for call in fake.calls()]


@BOTH
@pytest.mark.parametrize(("end", "function"), [("close", "ncclCommDestroy"), ("abort", "ncclCommAbort")])
def test_the_first_end_is_the_only_one(
    make: Callable[..., Any], fake: FakeNccl, kind: Kind, end: str, function: str
) -> None:
    communicator = make(kind)
    getattr(communicator, end)()
    communicator.close()
    communicator.abort()
    assert functions(fake) == [function]


@BOTH
def test_a_destroy_that_failed_is_not_tried_again(make: Callable[..., Any], fake: FakeNccl, kind: Kind) -> None:
    communicator = make(kind)
    fake.fail_next("ncclCommDestroy", 3)
    with pytest.raises(NcclError, match="ncclCommDestroy returned 3"):
        communicator.close()
    communicator.close()
    assert functions(fake) == ["ncclCommDestroy"]
    assert communicator.disabled


@BOTH
def test_closing_waits_for_the_work(make: Callable[..., Any], kind: Kind) -> None:
    communicator, stream = make(kind), cpu.Stream()
    gate = Gate(stream)
    threading.Timer(0.02, gate.open).start()
    communicator.close()
    assert stream.query()


@BOTH
def test_work_that_failed_is_raised_by_close_and_the_communicator_is_gone(
    make: Callable[..., Any], fake: FakeNccl, kind: Kind
) -> None:
    communicator, stream = make(kind), cpu.Stream()
    stream.submit(fail)
    with pytest.raises(PlantedError):
        communicator.close()
    assert functions(fake) == ["ncclCommAbort"]
    communicator.close()


# Warm-up


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


def test_the_stream_free_one_warms_up_on_a_stream_that_is_gone_afterwards(
    group: dist.ProcessGroup, device: Device, fake: FakeNccl
) -> None:
    check_warm_up_leaves_no_stream(StreamFreeCommunicator, group, device, fake)


@pytest.mark.parametrize("mutant", [KeepsTheWarmUpStream, WarmsUpOnTheCurrentStream, DedicatedStreamCommunicator])
def test_the_check_catches_a_stream_that_is_kept(
    group: dist.ProcessGroup, device: Device, fake: FakeNccl, mutant: Kind
) -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_warm_up_leaves_no_stream(mutant, group, device, fake)


def test_over_gloo_too_the_stream_of_the_warm_up_is_gone(
    group: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
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
        communicator = StreamFreeCommunicator(group, device)
        [handle] = made
        with pytest.raises(InvalidArgumentError, match="no CPU stream has handle"):
            device.streams.from_handle(handle)
    finally:
        gc.enable()
    communicator.close()


@BOTH
def test_the_warm_up_is_one_tiny_all_reduce_ordered_with_its_input(
    group: dist.ProcessGroup, device: Device, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    zeros, written_on = torch.zeros, []

    def noted(*size: int, **options: Any) -> torch.Tensor:
        if size == (1,):
            written_on.append(cpu.current_stream().handle)
        return zeros(*size, **options)

    monkeypatch.setattr(torch, "zeros", noted)
    ordering = watch_ordering(monkeypatch)
    communicator = kind(group, device)
    assert functions(fake) == ["ncclGetUniqueId", "ncclCommInitRank", "ncclAllReduce"]
    [warm_up] = fake.calls("ncclAllReduce")
    assert (warm_up.count, warm_up.send) == (1, warm_up.recv)
    assert [warm_up.stream] == written_on
    assert ordering == ["Stream.synchronize"]
    if kind is DedicatedStreamCommunicator:
        assert warm_up.stream == communicator.stream.handle
    assert warm_up.stream != 0


@BOTH
def test_a_warm_up_that_fails_aborts_and_raises(
    group: dist.ProcessGroup, device: Device, fake: FakeNccl, kind: Kind
) -> None:
    fake.fail_next("ncclAllReduce", 6)
    with pytest.raises(NcclError, match="ncclAllReduce returned 6"):
        kind(group, device)
    [warm_up] = fake.calls("ncclAllReduce")
    assert fake.calls()[-1] == Call(function="ncclCommAbort", depth=0, comm=warm_up.comm)


@BOTH
def test_a_warm_up_that_fails_in_its_stream_aborts_and_raises(
    group: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    aborted: list[int] = []
    monkeypatch.setattr(GlooTransport, "abort", lambda self, comm: aborted.append(comm))
    monkeypatch.setattr(GlooTransport, "all_reduce", lambda self, *args: cpu.from_handle(args[-1]).submit(fail))
    with pytest.raises(PlantedError):
        kind(group, open_device("cpu", 0))
    assert len(aborted) == 1


# Groups and windows


@BOTH
def test_operations_between_group_start_and_group_end_are_in_one_group(
    make: Callable[..., Any], fake: FakeNccl, kind: Kind
) -> None:
    communicator = make(kind)
    communicator.group_start()
    communicator.all_reduce(torch.ones(2))
    communicator.send_recv(torch.ones(2), torch.ones(2), 2, 0)
    communicator.group_end()
    assert [(call.function, call.depth) for call in fake.calls()] == [
        ("ncclGroupStart", 0),
        ("ncclAllReduce", 1),
        ("ncclGroupStart", 1),
        ("ncclSend", 2),
        ("ncclRecv", 2),
        ("ncclGroupEnd", 2),
        ("ncclGroupEnd", 1),
    ]
    assert fake.group_depth() == 0


@BOTH
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("send_recv", "ncclSend"),
        ("send_recv", "ncclRecv"),
        ("send_recv", "ncclGroupEnd"),
        ("all_gather with sizes", "ncclBroadcast"),
        ("reduce_scatter with sizes", "ncclReduce"),
    ],
)
def test_a_failure_inside_an_operations_group_leaves_none_open(
    make: Callable[..., Any], fake: FakeNccl, kind: Kind, name: str, function: str
) -> None:
    communicator = make(kind)
    fake.fail_next(function, 5)
    with pytest.raises(NcclError, match=f"{function} returned 5"):
        OPERATIONS[name].call(communicator, tensors_of(communicator))
    assert fake.group_depth() == 0
    assert functions(fake)[-1] == "ncclGroupEnd"


@BOTH
def test_a_window_passes_through(make: Callable[..., Any], fake: FakeNccl, kind: Kind) -> None:
    communicator = make(kind)
    window = communicator.register_comm_window_raw(4096, 512)
    assert window is not None
    communicator.deregister_comm_window(window)
    register, deregister = fake.calls()
    assert register == Call(
        function="ncclCommWindowRegister", depth=0, comm=register.comm, pointer=4096, size=512, flags=0
    )
    assert deregister == replace(
        register, function="ncclCommWindowDeregister", window=window, pointer=None, size=None, flags=None
    )
    fake.set_null_windows(True)
    assert communicator.register_comm_window_raw(4096, 512) is None


@BOTH
def test_an_asynchronous_error_is_raised_when_asked_for(make: Callable[..., Any], fake: FakeNccl, kind: Kind) -> None:
    communicator = make(kind)
    communicator.check_async_error()
    fake.set_async_error(6)
    with pytest.raises(NcclError, match="remote process exited"):
        communicator.check_async_error()
