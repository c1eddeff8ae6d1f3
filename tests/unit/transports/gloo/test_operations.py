"""The operations of the transport over Gloo, and their results in every data type."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.streams import cpu
from nccl_bench.transports.gloo import GlooTransport
from tests.support.communicator_calls import raw_bytes
from tests.support.gloo_ranks import FLOAT32, SUM, Rank, inputs, poisoned
from tests.support.synthetic_runs import case as make_case

# Arguments: transport, send, recv, count of a block, data type, communicator, stream.
Move = Callable[[GlooTransport, int, int, int, int, int, int], None]
# The number of blocks that are sent and received, the call, and the result of rank r from the inputs of both ranks.
MOVING: dict[str, tuple[int, int, Move, Callable[[int, list[Tensor]], Tensor]]] = {
    "all_gather": (1, 2, lambda t, x, y, n, d, c, s: t.all_gather(x, y, n, d, c, s), lambda r, xs: torch.cat(xs)),
    "all_to_all": (
        2,
        2,
        lambda t, x, y, n, d, c, s: t.all_to_all(x, y, n, d, c, s),
        lambda r, xs: torch.cat([x.chunk(2)[r] for x in xs]),
    ),
    "broadcast": (1, 1, lambda t, x, y, n, d, c, s: t.broadcast(x, y, n, d, 1, c, s), lambda r, xs: xs[1]),
}


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("count", [1, 5, 1000])
def test_operations_that_move_bytes_work_in_every_data_type(
    transport: GlooTransport, pair: list[Rank], name: str, count: int
) -> None:
    sent, received, move, result = MOVING[name]
    for dtype, number in transport.dtypes.items():
        xs = inputs(sent * count, dtype)
        ys = [poisoned(received * count, x) for x in xs]
        before = [raw_bytes(x) for x in xs]
        for rank, x, y in zip(pair, xs, ys, strict=True):
            move(transport, x.data_ptr(), y.data_ptr(), count, number, rank.comm, rank.stream.handle)
        cpu.synchronize()
        expected = [result(r, [x.view(torch.uint8) for x in xs]) for r in range(2)]
        assert [raw_bytes(y) for y in ys] == [raw_bytes(y) for y in expected], dtype
        assert [raw_bytes(x) for x in xs] == before, dtype


REDUCTIONS: dict[RedOp, Callable[[Tensor, Tensor], Tensor]] = {
    RedOp.SUM: torch.add,
    RedOp.PROD: torch.mul,
    RedOp.MIN: torch.minimum,
    RedOp.MAX: torch.maximum,
    RedOp.AVG: lambda a, b: (a + b) / 2,
}


@pytest.mark.parametrize("name", ["all_reduce", "reduce", "reduce_scatter"])
@pytest.mark.parametrize("op", RedOp)
@pytest.mark.parametrize("in_place", [False, True])
def test_a_reduction_writes_its_result_and_nothing_else(
    transport: GlooTransport, pair: list[Rank], name: str, op: RedOp, in_place: bool
) -> None:
    count, blocks, root = 5, 2 if name == "reduce_scatter" else 1, (1,) if name == "reduce" else ()
    for dtype, row in DTYPES.items():
        if dtype.startswith("float8") or (op is RedOp.AVG and not row.is_float):
            continue  # Gloo has neither of them
        if transport.refusal(make_case(collective=name, redop=op)):
            continue  # this torch is too old
        xs = inputs(blocks * count, dtype)
        before = [raw_bytes(x) for x in xs]
        ys = [x.chunk(blocks)[r % blocks] if in_place else poisoned(count, x) for r, x in enumerate(xs)]
        expected = [REDUCTIONS[op](*xs).chunk(blocks)[r % blocks] for r in range(2)]
        if root:
            expected[0] = ys[0].clone()
        for rank, x, y in zip(pair, xs, ys, strict=True):
            numbers = (count, transport.dtypes[dtype], transport.redops[op], *root)
            getattr(transport, name)(x.data_ptr(), y.data_ptr(), *numbers, rank.comm, rank.stream.handle)
        cpu.synchronize()
        assert [raw_bytes(y) for y in ys] == [raw_bytes(y) for y in expected], dtype
        assert in_place or [raw_bytes(x) for x in xs] == before, dtype


@pytest.mark.parametrize("count", [0, 1, 5, 300_000])
def test_a_group_of_sends_and_receives_in_a_ring_completes(
    transport: GlooTransport, pair: list[Rank], count: int
) -> None:
    for dtype, number in transport.dtypes.items():
        xs = inputs(count, dtype)
        ys = [poisoned(count, x) for x in xs]
        for r, rank in enumerate(pair):
            with transport.group():
                transport.send(xs[r].data_ptr(), count, number, 1 - r, rank.comm, rank.stream.handle)
                transport.recv(ys[r].data_ptr(), count, number, 1 - r, rank.comm, rank.stream.handle)
        cpu.synchronize()
        assert [raw_bytes(y) for y in ys] == [raw_bytes(x) for x in reversed(xs)], dtype


def test_empty_operations_do_nothing(transport: GlooTransport, pair: list[Rank]) -> None:
    for rank in pair:
        rest = (rank.comm, rank.stream.handle)
        transport.all_reduce(0, 0, 0, FLOAT32, SUM, *rest)
        transport.all_gather(0, 0, 0, FLOAT32, *rest)
        transport.reduce_scatter(0, 0, 0, FLOAT32, SUM, *rest)
        transport.all_to_all(0, 0, 0, FLOAT32, *rest)
        transport.broadcast(0, 0, 0, FLOAT32, 0, *rest)
        transport.reduce(0, 0, 0, FLOAT32, SUM, 0, *rest)
    cpu.synchronize()


@pytest.mark.parametrize("shift_bytes", [1, 4])
def test_unaligned_memory_is_reduced(transport: GlooTransport, pair: list[Rank], shift_bytes: int) -> None:
    xs = inputs(5)
    buffers = [torch.zeros(5 * 4 + shift_bytes + 1, dtype=torch.uint8) for _ in pair]
    for rank, x, buffer in zip(pair, xs, buffers, strict=True):
        buffer[shift_bytes:-1].copy_(x.view(torch.uint8))
        at = buffer.data_ptr() + shift_bytes
        transport.all_reduce(at, at, 5, FLOAT32, SUM, rank.comm, rank.stream.handle)
    cpu.synchronize()
    for buffer in buffers:
        assert buffer[shift_bytes:-1].tolist() == raw_bytes(xs[0] + xs[1])
        assert buffer[:shift_bytes].tolist() == [0] * shift_bytes
        assert buffer[-1] == 0


def test_each_data_type_and_reduction_has_its_own_number() -> None:
    for numbers, names in ((GlooTransport.dtypes, DTYPES), (GlooTransport.redops, RedOp)):
        assert set(numbers) == set(names)
        assert len(set(numbers.values())) == len(numbers)
