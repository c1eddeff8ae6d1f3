"""The communicators over a fake libnccl: which stream each operation runs on, their state, and how they come and go."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.over_transport import TransportCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.communicators.torch_distributed import ProcessGroupCommunicator
from nccl_bench.errors import DisabledError, NcclError
from nccl_bench.streams import cpu
from nccl_bench.transports.device import Device, open_device
from nccl_bench.transports.gloo import GlooTransport
from tests.support.communicator_calls import (
    CALLED_METHODS,
    CALLS_ON_A_GIVEN_STREAM,
    COMPLETE_CALLS,
    EVERY_CALL,
    HALF_CALLS,
    Tensors,
    raw_bytes,
    tensors_for,
)
from tests.support.communicators import (
    PRETENDED_RANK,
    CommunicatorMaker,
    assert_follows_the_current_stream,
    nccl_device,
    one_rank_group,
    pretend_ranks,
    streams_used,
)
from tests.support.fake_nccl import Call, FakeNccl
from tests.support.stream_control import Gate, PlantedError, raise_planted_error, record_stream_calls

BOTH = pytest.mark.parametrize("kind", [StreamFreeCommunicator, DedicatedStreamCommunicator])

Kind = type[TransportCommunicator]


@pytest.fixture(scope="module")
def group() -> Iterator[dist.ProcessGroup]:
    with one_rank_group() as group:
        yield group


@pytest.fixture
def device(fake: FakeNccl) -> Device:
    return nccl_device(fake.path)


@pytest.fixture
def make(group: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch) -> CommunicatorMaker:
    """Makes a communicator of a kind in a pretended world of four, and empties the library's log."""
    return CommunicatorMaker(group, fake, monkeypatch)


# Stream identity


@pytest.mark.parametrize("name", [*COMPLETE_CALLS, *HALF_CALLS])
def test_with_use_current_stream_the_dedicated_one_runs_on_the_current_one(
    make: Callable[..., Any], fake: FakeNccl, name: str
) -> None:
    assert_follows_the_current_stream(make(DedicatedStreamCommunicator, use_current_stream=True), name, fake)


@pytest.mark.parametrize("name", [*COMPLETE_CALLS, *HALF_CALLS])
def test_without_an_argument_the_dedicated_one_runs_on_its_private_stream(
    make: Callable[..., Any], fake: FakeNccl, name: str
) -> None:
    communicator = make(DedicatedStreamCommunicator)
    private = {communicator.stream.handle}
    assert private != {0}
    assert streams_used(communicator, name, fake) == private
    with cpu.stream(cpu.Stream()):
        assert streams_used(communicator, name, fake) == private


@pytest.mark.parametrize("name", EVERY_CALL)
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
@pytest.mark.parametrize("name", CALLS_ON_A_GIVEN_STREAM)
def test_the_context_parallel_all_gather_runs_on_the_stream_it_is_given(
    make: Callable[..., Any], fake: FakeNccl, kind: Kind, name: str
) -> None:
    communicator, given = make(kind), cpu.Stream()
    with cpu.stream(cpu.Stream()):
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


@BOTH
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


def parameters(kind: type, method: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(kind, method)).parameters)


@pytest.mark.parametrize("method", sorted(CALLED_METHODS))
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
    """Function and arguments on rank 1 of 4, which has 2 rows of 3 float32 of 8."""
    part, out_part = t.part.data_ptr(), t.out_part.data_ptr()
    whole, out_whole = t.whole.data_ptr(), t.out_whole.data_ptr()
    to_next, from_previous = {"send": part, "count": 6, "peer": 2}, {"recv": out_part, "count": 6, "peer": 0}
    group, end = [("ncclGroupStart", {})], [("ncclGroupEnd", {})]
    return {
        "all_reduce": [("ncclAllReduce", {"send": part, "recv": part, "count": 6})],
        "outplace_all_reduce into out": [("ncclAllReduce", {"send": part, "recv": out_part, "count": 6})],
        "all_gather": [("ncclAllGather", {"send": part, "recv": out_whole, "count": 6})],
        "cp_all_gather_into_tensor": [("ncclAllGather", {"send": part, "recv": out_whole, "count": 6})],
        "reduce_scatter": [("ncclReduceScatter", {"send": whole, "recv": out_part, "count": 6})],
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
@pytest.mark.parametrize(
    "name", [name for name in EVERY_CALL if name != "outplace_all_reduce" and not name.endswith("with sizes")]
)
def test_an_operation_is_these_calls_of_the_library(
    make: Callable[..., Any], fake: FakeNccl, kind: Kind, name: str
) -> None:
    communicator = make(kind)
    stream = cpu.Stream()
    given = {"stream": stream} if kind is DedicatedStreamCommunicator or name in CALLS_ON_A_GIVEN_STREAM else {}
    tensors = tensors_for(communicator, op=RedOp.MAX)
    with cpu.stream(stream):
        EVERY_CALL[name].call(communicator, tensors, **given)
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
    assert (init.id, init.rank, init.nranks) == (sent, PRETENDED_RANK, 4)


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", RedOp)
def test_alone_in_the_world_every_operation_is_the_identity(
    make: Callable[..., Any], kind: Kind, dtype: str, op: RedOp
) -> None:
    communicator = make(kind, world_size=1)
    for name, operation in COMPLETE_CALLS.items():
        tensors = tensors_for(communicator, getattr(torch, dtype), op)
        source = raw_bytes(getattr(tensors, operation.source))
        operation.call(communicator, tensors)
        assert raw_bytes(getattr(tensors, operation.target)) == source, name


# State


@BOTH
def test_what_else_reaches_the_library_is_refused_too(make: Callable[..., Any], fake: FakeNccl, kind: Kind) -> None:
    communicator = make(kind)
    with communicator.change_state(False):
        for call in (
            communicator.group_start,
            lambda: communicator.register_comm_window_raw(64, 8),
            lambda: communicator.register_comm_memory(64, 8),
        ):
            with pytest.raises(DisabledError, match="is disabled: call it inside"):
                call()
        communicator.deregister_comm_window(64)  # what is held may be given back
        communicator.deregister_comm_memory(64)
    communicator.close()
    fake.reset()
    for call in (
        communicator.group_start,
        lambda: communicator.register_comm_window_raw(64, 8),
        lambda: communicator.deregister_comm_window(64),
        lambda: communicator.register_comm_memory(64, 8),
        lambda: communicator.deregister_comm_memory(64),
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
    stream.submit(raise_planted_error)
    with pytest.raises(PlantedError):
        communicator.close()
    assert functions(fake) == ["ncclCommAbort"]
    communicator.close()


# Warm-up


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
    ordering = record_stream_calls(monkeypatch)
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
    monkeypatch.setattr(
        GlooTransport, "all_reduce", lambda self, *args: cpu.from_handle(args[-1]).submit(raise_planted_error)
    )
    with pytest.raises(PlantedError):
        kind(group, open_device("cpu", 0))
    assert len(aborted) == 1


# torch.distributed


@pytest.fixture
def process_group(group: dist.ProcessGroup) -> Iterator[ProcessGroupCommunicator]:
    communicator = ProcessGroupCommunicator(group, open_device("cpu", 0))
    yield communicator
    communicator.close()


@pytest.mark.parametrize("name", HALF_CALLS)
def test_of_torch_s_send_and_recv_too_a_disabled_one_is_refused(
    process_group: ProcessGroupCommunicator, name: str
) -> None:
    tensors = tensors_for(process_group)
    before = tensors.contents()
    with process_group.change_state(False), pytest.raises(DisabledError, match="is disabled"):
        HALF_CALLS[name].call(process_group, tensors)
    process_group.close()
    with pytest.raises(DisabledError, match="is closed"):
        HALF_CALLS[name].call(process_group, tensors)
    assert tensors.contents() == before


@pytest.mark.parametrize(("name", "function"), [("send", dist.isend), ("recv", dist.irecv)])
def test_torch_s_send_and_recv_come_in_the_order_of_the_current_stream_and_are_joined(
    process_group: ProcessGroupCommunicator, monkeypatch: pytest.MonkeyPatch, name: str, function: object
) -> None:
    seen: list[object] = []

    class Work:
        def wait(self) -> None:
            seen.append("joined")

    def begin(operations: list[dist.P2POp]) -> list[Work]:
        seen.extend((o.op, o.tensor.data_ptr(), o.group_peer, o.group) for o in operations)
        return [Work()]

    monkeypatch.setattr(dist, "batch_isend_irecv", begin)
    caller, tensor = cpu.Stream(), torch.ones(3)
    gate = Gate(caller)
    with cpu.stream(caller):
        getattr(process_group, name)(tensor, 0)
    before = list(seen)
    gate.open()
    caller.synchronize()
    assert before == []
    assert seen == [(function, tensor.data_ptr(), 0, process_group._group), "joined"]


def test_torch_s_reduce_scatter_with_sizes_leaves_its_input_alone(
    process_group: ProcessGroupCommunicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Alone in the world a reduction changes nothing, so this one leaves a partial result.
    monkeypatch.setattr(dist, "reduce", lambda block, **_options: block.add_(1))
    given, output = torch.arange(6.0).view(2, 3), torch.zeros(2, 3)
    process_group.reduce_scatter(output, given, RedOp.SUM, [2])
    assert output.flatten().tolist() == [1, 2, 3, 4, 5, 6]
    assert given.flatten().tolist() == [0, 1, 2, 3, 4, 5]


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
        COMPLETE_CALLS[name].call(communicator, tensors_for(communicator))
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
        function="ncclCommWindowRegister", depth=0, comm=register.comm, pointer=4096, size=512, flags=1
    )
    assert deregister == replace(
        register, function="ncclCommWindowDeregister", window=window, pointer=None, size=None, flags=None
    )
    fake.set_null_handles(True)
    assert communicator.register_comm_window_raw(4096, 512) is None


@BOTH
def test_registered_memory_passes_through(make: Callable[..., Any], fake: FakeNccl, kind: Kind) -> None:
    communicator = make(kind)
    handle = communicator.register_comm_memory(4096, 512)
    assert handle is not None
    communicator.deregister_comm_memory(handle)
    register, deregister = fake.calls()
    assert register == Call(function="ncclCommRegister", depth=0, comm=register.comm, pointer=4096, size=512)
    assert deregister == Call(function="ncclCommDeregister", depth=0, comm=register.comm, handle=handle)
    fake.set_null_handles(True)
    assert communicator.register_comm_memory(4096, 512) is None
