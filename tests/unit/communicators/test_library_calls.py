"""The calls that reach the library: what each operation is, with which arguments, in which group."""

from __future__ import annotations

from collections.abc import Callable
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
from nccl_bench.errors import NcclError
from nccl_bench.streams import cpu
from nccl_bench.transports.device import Device
from tests.support.communicator_calls import (
    CALLS_ON_A_GIVEN_STREAM,
    CALLS_WITHOUT_A_STREAM,
    COMPLETE_CALLS,
    EVERY_CALL,
    Tensors,
    raw_bytes,
    tensors_for,
)
from tests.support.communicators import (
    BOTH_POLICIES,
    PRETENDED_RANK,
    CommunicatorMaker,
    called_functions,
    pretend_ranks,
)
from tests.support.fake_nccl import Call, FakeNccl

Kind = type[TransportCommunicator]


WITH_SIZES = [name for name in EVERY_CALL if name.endswith("with sizes")]
REDUCING = {"ncclAllReduce", "ncclReduceScatter", "ncclReduce"}


def expected_calls(name: str, t: Tensors) -> list[tuple[str, dict[str, int]]]:
    """Return the functions and their arguments on rank 1 of 4, whose share is 2 of 8 rows of 3 float32."""
    part, out_part = t.part.data_ptr(), t.out_part.data_ptr()
    whole, out_whole = t.whole.data_ptr(), t.out_whole.data_ptr()
    to_next, from_previous = {"send": part, "count": 6, "peer": 2}, {"recv": out_part, "count": 6, "peer": 0}
    group, end = [("ncclGroupStart", {})], [("ncclGroupEnd", {})]
    from_all = [("ncclRecv", {"recv": out_whole + 24 * peer, "count": 6, "peer": peer}) for peer in range(4)]
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
        "gather": [*group, ("ncclSend", {"send": part, "count": 6, "peer": 1}), *from_all, *end],
        "send": [("ncclSend", to_next)],
        "recv": [("ncclRecv", from_previous)],
        "send_recv": [*group, ("ncclSend", to_next), ("ncclRecv", from_previous), *end],
    }[name]


@BOTH_POLICIES
@pytest.mark.parametrize(
    "name", [name for name in EVERY_CALL if name != "outplace_all_reduce" and not name.endswith("with sizes")]
)
def test_an_operation_makes_these_calls_of_the_library(
    make: Callable[..., Any], fake: FakeNccl, kind: Kind, name: str
) -> None:
    communicator = make(kind)
    stream = cpu.Stream()
    given = {"stream": stream} if kind is DedicatedStreamCommunicator or name in CALLS_ON_A_GIVEN_STREAM else {}
    if name in CALLS_WITHOUT_A_STREAM and given:
        communicator, given = make(kind, use_current_stream=True), {}
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


@BOTH_POLICIES
def test_outplace_all_reduce_makes_an_output_that_is_not_given(
    make: Callable[..., Any], fake: FakeNccl, kind: Kind
) -> None:
    communicator = make(kind)
    x = torch.ones(2, 5, dtype=torch.bfloat16)
    out = communicator.outplace_all_reduce(x, op=RedOp.AVG)
    [call] = fake.calls()
    assert (call.send, call.recv, call.count, call.dtype, call.op) == (x.data_ptr(), out.data_ptr(), 10, 9, 4)
    assert (out.shape, out.dtype, out is x) == (x.shape, x.dtype, False)
    given = torch.empty_like(x)
    assert communicator.outplace_all_reduce(x, given) is given


@BOTH_POLICIES
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", RedOp)
def test_with_one_rank_every_operation_is_the_identity(
    make: Callable[..., Any], kind: Kind, dtype: str, op: RedOp
) -> None:
    communicator = make(kind, world_size=1)
    for name, operation in COMPLETE_CALLS.items():
        tensors = tensors_for(communicator, getattr(torch, dtype), op)
        source = raw_bytes(getattr(tensors, operation.source))
        operation.call(communicator, tensors)
        assert raw_bytes(getattr(tensors, operation.target)) == source, name


def test_rank_0_makes_the_unique_id_and_the_other_ranks_receive_it(
    make: Callable[..., Any],
    one_rank: dist.ProcessGroup,
    device: Device,
    fake: FakeNccl,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    StreamFreeCommunicator(one_rank, device)
    made = device.transport.unique_id()
    assert [call.id for call in fake.calls("ncclCommInitRank")] == [made]

    fake.reset()
    pretend_ranks(monkeypatch)
    sent = bytes(range(255, 127, -1))
    monkeypatch.setattr(
        dist, "broadcast", lambda buffer, src, group: buffer.copy_(torch.tensor(list(sent), dtype=torch.uint8))
    )
    StreamFreeCommunicator(one_rank, device)
    assert fake.calls("ncclGetUniqueId") == []
    [init] = fake.calls("ncclCommInitRank")
    assert (init.id, init.rank, init.nranks) == (sent, PRETENDED_RANK, 4)


# Regression tests of the refactor: the operations are the same as before, and honour uneven `sizes`.


def check_sizes_are_honoured(communicator: Any, name: str, fake: FakeNccl) -> None:
    """Expect a group of one broadcast or reduce for each of 4 ranks, whose shares are 1, 2, 0 and 5 rows of 3."""
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
    """Drops ``sizes``; its tensors fit even blocks too, so no check refuses them."""

    def _all_gather(self, output: torch.Tensor, input: torch.Tensor, sizes: Any, handle: int) -> None:
        super()._all_gather(output, input, None, handle)

    def _reduce_scatter(self, output: torch.Tensor, input: torch.Tensor, op: RedOp, sizes: Any, handle: int) -> None:
        super()._reduce_scatter(output, input, op, None, handle)


@BOTH_POLICIES
@pytest.mark.parametrize("name", WITH_SIZES)
def test_sizes_are_honoured(make: CommunicatorMaker, fake: FakeNccl, kind: Kind, name: str) -> None:
    check_sizes_are_honoured(make(kind), name, fake)


@pytest.mark.parametrize("name", WITH_SIZES)
def test_the_check_catches_sizes_that_are_dropped(make: CommunicatorMaker, fake: FakeNccl, name: str) -> None:
    with pytest.raises(AssertionError):
        check_sizes_are_honoured(make(DropsSizes), name, fake)


# Groups and registered memory


@BOTH_POLICIES
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("send_recv", "ncclSend"),
        ("send_recv", "ncclRecv"),
        ("send_recv", "ncclGroupEnd"),
        ("gather", "ncclRecv"),
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
    assert called_functions(fake)[-1] == "ncclGroupEnd"


@BOTH_POLICIES
def test_a_window_is_registered_and_deregistered(make: Callable[..., Any], fake: FakeNccl, kind: Kind) -> None:
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


@BOTH_POLICIES
def test_memory_is_registered_and_deregistered(make: Callable[..., Any], fake: FakeNccl, kind: Kind) -> None:
    communicator = make(kind)
    handle = communicator.register_comm_memory(4096, 512)
    assert handle is not None
    communicator.deregister_comm_memory(handle)
    register, deregister = fake.calls()
    assert register == Call(function="ncclCommRegister", depth=0, comm=register.comm, pointer=4096, size=512)
    assert deregister == Call(function="ncclCommDeregister", depth=0, comm=register.comm, handle=handle)
    fake.set_null_handles(True)
    assert communicator.register_comm_memory(4096, 512) is None
