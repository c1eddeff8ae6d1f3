"""The transport over Gloo. Two ranks live in this process, as two communicators of one transport."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.errors import TransportError
from nccl_bench.streams import cpu
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.device import Device
from nccl_bench.transports.gloo import GlooTransport
from tests.support.communicator_calls import raw_bytes
from tests.support.communicators import one_rank_group
from tests.support.stream_control import PATIENCE_S, Gate, finishes_within
from tests.support.synthetic_runs import case as make_case

FLOAT32 = GlooTransport.dtypes["float32"]
SUM = GlooTransport.redops[RedOp.SUM]


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[dist.ProcessGroup]:
    with one_rank_group() as group:
        yield group


@pytest.fixture
def transport() -> Iterator[GlooTransport]:
    yield GlooTransport(CpuStreams())
    cpu.synchronize()


class Rank:
    """A communicator and the stream of its operations."""

    def __init__(self, comm: int) -> None:
        self.comm = comm
        self.stream = cpu.Stream()


def on_every_rank(call: Callable[[int], int], world_size: int = 2) -> list[int]:
    with ThreadPoolExecutor(world_size) as pool:
        return list(pool.map(call, range(world_size), timeout=PATIENCE_S))


def connect(transport: GlooTransport, world_size: int) -> list[Rank]:
    unique_id = transport.unique_id()
    return [Rank(comm) for comm in on_every_rank(lambda r: transport.init_rank(world_size, unique_id, r), world_size)]


@pytest.fixture
def alone(transport: GlooTransport) -> Rank:
    return connect(transport, 1)[0]


@pytest.fixture
def pair(transport: GlooTransport) -> list[Rank]:
    return connect(transport, 2)


def inputs(count: int, dtype: str = "float32", world_size: int = 2) -> list[Tensor]:
    """Return the input of each rank: small numbers, whose sums and products are exact in every data type."""
    return [(torch.arange(count) % 3 + 1 + r).to(getattr(torch, dtype)) for r in range(world_size)]


def poisoned(count: int, like: Tensor) -> Tensor:
    return torch.full((count,), 100.0).to(like.dtype)


def all_reduce(transport: GlooTransport, rank: Rank, x: Tensor) -> None:
    handle = rank.stream.handle
    transport.all_reduce(x.data_ptr(), x.data_ptr(), x.numel(), FLOAT32, SUM, rank.comm, handle)
    transport.retain(handle, x)


def copy(transport: GlooTransport, rank: Rank, x: Tensor, y: Tensor, stream: cpu.Stream | None = None) -> None:
    """Copy ``x`` into ``y`` by a broadcast on a communicator of one rank."""
    handle = (stream or rank.stream).handle
    transport.broadcast(x.data_ptr(), y.data_ptr(), x.numel(), FLOAT32, 0, rank.comm, handle)
    transport.retain(handle, x, y)


# Results. Arguments in the table: transport, send, recv, count of a block, data type, communicator, stream.

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


# Order


def test_an_operation_runs_when_its_stream_reaches_it(transport: GlooTransport, alone: Rank) -> None:
    x, y = torch.ones(3), torch.zeros(3)
    gate = Gate(alone.stream)
    alone.stream.submit(x.fill_, 5.0)
    copy(transport, alone, x, y)
    copied = torch.zeros(3)
    alone.stream.submit(copied.copy_, y)
    assert y.tolist() == [0, 0, 0]
    gate.open()
    alone.stream.synchronize()
    assert copied.tolist() == [5, 5, 5]


def check_runs_in_program_order(transport: GlooTransport, rank: Rank, patience_s: float) -> None:
    first, second = cpu.Stream(), cpu.Stream()
    ones, twos, y = torch.ones(3), torch.full((3,), 2.0), torch.zeros(3)
    gate = Gate(first)
    copy(transport, rank, ones, y, first)
    copy(transport, rank, twos, y, second)
    overtook = finishes_within(second, patience_s)
    gate.open()
    cpu.synchronize()
    assert not overtook
    assert y.tolist() == [2, 2, 2]


def test_operations_of_one_communicator_run_in_program_order_across_streams(
    transport: GlooTransport, alone: Rank
) -> None:
    check_runs_in_program_order(transport, alone, 0.05)
    check_runs_in_program_order(transport, alone, 0.05)


def test_the_check_of_program_order_catches_a_transport_without_it(
    transport: GlooTransport, alone: Rank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu.Stream, "wait_event", lambda self, event: None)
    with pytest.raises(AssertionError):
        check_runs_in_program_order(transport, alone, PATIENCE_S)


def test_the_default_stream_waits_for_other_streams_of_the_communicator(transport: GlooTransport, alone: Rank) -> None:
    ones, twos, y = torch.ones(3), torch.full((3,), 2.0), torch.zeros(3)
    gate = Gate(alone.stream)
    copy(transport, alone, ones, y)
    threading.Timer(0.02, gate.open).start()
    copy(transport, alone, twos, y, cpu.default_stream())
    cpu.synchronize()
    assert y.tolist() == [2, 2, 2]


def test_ranks_match_operations_by_program_order_even_if_streams_are_held(
    transport: GlooTransport, pair: list[Rank]
) -> None:
    firsts, seconds = inputs(3), inputs(5)
    gates = []
    for r, rank in enumerate(pair):
        streams = cpu.Stream(), cpu.Stream()
        gates.append(Gate(streams[r]))  # rank 0's first operation is held, and rank 1's second
        for x, stream in zip((firsts[r], seconds[r]), streams, strict=True):
            transport.all_reduce(x.data_ptr(), x.data_ptr(), x.numel(), FLOAT32, SUM, rank.comm, stream.handle)
    for gate in gates:
        gate.open()
    cpu.synchronize()
    assert firsts[0].tolist() == firsts[1].tolist() == [3, 5, 7]
    assert seconds[0].tolist() == seconds[1].tolist() == [3, 5, 7, 3, 5]


def test_operations_of_two_communicators_are_not_ordered(transport: GlooTransport) -> None:
    held, free = connect(transport, 1)[0], connect(transport, 1)[0]
    x, y = torch.ones(3), torch.zeros(3)
    gate = Gate(held.stream)
    all_reduce(transport, held, torch.ones(3))
    copy(transport, free, x, y)
    assert finishes_within(free.stream, PATIENCE_S)
    assert y.tolist() == [1, 1, 1]
    gate.open()


# Groups


def test_a_group_holds_operations_back_until_its_outermost_end(transport: GlooTransport, alone: Rank) -> None:
    y = torch.zeros(3)
    transport.group_start()
    transport.group_start()
    copy(transport, alone, torch.ones(3), y, cpu.default_stream())
    transport.group_end()
    assert y.tolist() == [0, 0, 0]
    transport.group_end()
    assert y.tolist() == [1, 1, 1]
    with pytest.raises(TransportError, match="without an open group: call group_start first"):
        transport.group_end()


def test_a_group_belongs_to_its_thread(transport: GlooTransport, alone: Rank) -> None:
    x, y = torch.ones(3), torch.zeros(3)
    with transport.group():
        thread = threading.Thread(target=copy, args=(transport, alone, x, y, cpu.default_stream()))
        thread.start()
        thread.join(PATIENCE_S)
        assert y.tolist() == [1, 1, 1]


def test_a_group_over_two_streams_and_two_communicators_runs_on_each_stream(transport: GlooTransport) -> None:
    ranks = [connect(transport, 1)[0], connect(transport, 1)[0]]
    xs, ys = inputs(3), [torch.zeros(3), torch.zeros(3)]
    gates = [Gate(rank.stream) for rank in ranks]
    with transport.group():
        for rank, x, y in zip(ranks, xs, ys, strict=True):
            copy(transport, rank, x, y)
    gates[1].open()
    ranks[1].stream.synchronize()
    assert [ys[0].tolist(), ys[1].tolist()] == [[0, 0, 0], xs[1].tolist()]
    gates[0].open()
    ranks[0].stream.synchronize()
    assert ys[0].tolist() == xs[0].tolist()


def exchange_with_itself(transport: GlooTransport, rank: Rank, calls: list[tuple[str, Tensor]]) -> None:
    with transport.group():
        for method, tensor in calls:
            getattr(transport, method)(tensor.data_ptr(), tensor.numel(), FLOAT32, 0, rank.comm, rank.stream.handle)


@pytest.mark.parametrize("order", ["send first", "recv first"])
def test_a_rank_sends_to_itself(transport: GlooTransport, pair: list[Rank], order: str) -> None:
    sent, received = inputs(3), [torch.zeros(3), torch.zeros(3)]
    ends = [*(("send", x) for x in sent), *(("recv", y) for y in received)]
    exchange_with_itself(transport, pair[0], ends if order == "send first" else ends[2:] + ends[:2])
    pair[0].stream.synchronize()
    assert [y.tolist() for y in received] == [x.tolist() for x in sent]


@pytest.mark.parametrize("method", ["send", "recv"])
def test_a_message_to_itself_with_only_one_end_is_an_error(transport: GlooTransport, alone: Rank, method: str) -> None:
    x, y = torch.ones(3), torch.zeros(3)
    exchange_with_itself(transport, alone, [(method, x)])
    with pytest.raises(
        TransportError, match=r"^Gloo: rank 0 sends .* to itself .* issue each send and its receive in one group"
    ):
        alone.stream.synchronize()
    exchange_with_itself(transport, alone, [("send", x), ("recv", y)])
    alone.stream.synchronize()
    assert y.tolist() == [1, 1, 1]


# Failures


def test_a_failure_is_raised_once_by_the_synchronisation(transport: GlooTransport, alone: Rank) -> None:
    x, number = torch.ones(3).to(torch.float8_e5m2), transport.dtypes["float8_e5m2"]
    transport.all_reduce(x.data_ptr(), x.data_ptr(), 3, number, SUM, alone.comm, alone.stream.handle)
    with pytest.raises(TransportError, match=r"^Gloo: Invalid scalar type") as raised:
        alone.stream.synchronize()
    assert isinstance(raised.value.__cause__, (RuntimeError, ValueError))
    y = torch.zeros(3)
    copy(transport, alone, torch.ones(3), y)
    alone.stream.synchronize()
    assert y.tolist() == [1, 1, 1]


def test_a_failure_on_the_default_stream_is_raised_at_once(transport: GlooTransport, alone: Rank) -> None:
    x = torch.ones(3)
    with pytest.raises(TransportError, match=r"^Gloo: "):
        transport.broadcast(x.data_ptr(), x.data_ptr(), 3, FLOAT32, 5, alone.comm, 0)


def test_an_average_of_integers_fails(transport: GlooTransport, alone: Rank) -> None:
    x, number, op = torch.ones(3, dtype=torch.int32), transport.dtypes["int32"], transport.redops[RedOp.AVG]
    with pytest.raises(TransportError, match=r"^Gloo: "):
        transport.all_reduce(x.data_ptr(), x.data_ptr(), 3, number, op, alone.comm, 0)


def test_work_queued_before_an_abort_fails_instead_of_running(transport: GlooTransport, alone: Rank) -> None:
    x, y = torch.ones(3), torch.zeros(3)
    gate = Gate(alone.stream)
    copy(transport, alone, x, y)
    transport.abort(alone.comm)  # does not wait: the gate is closed
    gate.open()
    with pytest.raises(TransportError, match="aborted before the operation ran"):
        alone.stream.synchronize()
    assert y.tolist() == [0, 0, 0]


def test_destroy_waits_for_the_work(transport: GlooTransport, alone: Rank) -> None:
    x, y = torch.ones(3), torch.zeros(3)
    gate = Gate(alone.stream)
    copy(transport, alone, x, y)
    threading.Timer(0.02, gate.open).start()
    transport.destroy(alone.comm)
    assert y.tolist() == [1, 1, 1]


# Lifetimes


def check_keeps_tensors_until_they_were_used(communicator: Any, in_group: bool) -> None:
    gc.disable()
    try:
        stream = cpu.Stream()
        gate = Gate(stream)
        x, y = torch.ones(3), torch.zeros(3)
        alive = weakref.ref(x), weakref.ref(y)
        with cpu.stream(stream), communicator._transport.group() if in_group else nullcontext():
            communicator.broadcast(x, 0, y)
            communicator.send_recv(y, x, 0, 0)
            del x, y
            assert None not in (ref() for ref in alive)
        assert None not in (ref() for ref in alive)
        gate.open()
        stream.synchronize()
        assert [ref() for ref in alive] == [None, None]
    finally:
        gc.enable()
        gate.open()
        cpu.synchronize()


@pytest.mark.parametrize("in_group", [False, True])
def test_tensors_live_until_their_operations_are_done(transport: GlooTransport, group: Any, in_group: bool) -> None:
    communicator = StreamFreeCommunicator(group, Device(streams=CpuStreams(), transport=transport))
    check_keeps_tensors_until_they_were_used(communicator, in_group)
    communicator.close()


@pytest.mark.parametrize("in_group", [False, True])
def test_the_check_catches_a_communicator_that_retains_nothing(
    transport: GlooTransport, group: Any, in_group: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    communicator = StreamFreeCommunicator(group, Device(streams=CpuStreams(), transport=transport))
    # The operations would read freed memory, so they are not run.
    monkeypatch.setattr("nccl_bench.transports.gloo.run_group", lambda operations: None)
    monkeypatch.setattr(communicator, "_retain", None)
    with pytest.raises(AssertionError):
        check_keeps_tensors_until_they_were_used(communicator, in_group)
    communicator.close()


# The rest


def test_unique_ids_are_unique(transport: GlooTransport) -> None:
    ids = {transport.unique_id() for _ in range(10)}
    assert (len(ids), {len(unique_id) for unique_id in ids}) == (10, {128})


def test_gloo_refuses_to_allocate_and_registers_nothing(transport: GlooTransport, alone: Rank) -> None:
    assert transport.window_register(alone.comm, 64, 8) is None
    assert transport.register(alone.comm, 64, 8) == 0
    with pytest.raises(TransportError, match=r"^gloo cannot allocate 8 bytes"):
        transport.mem_alloc(8)


def test_each_data_type_and_reduction_has_its_own_number() -> None:
    for numbers, names in ((GlooTransport.dtypes, DTYPES), (GlooTransport.redops, RedOp)):
        assert set(numbers) == set(names)
        assert len(set(numbers.values())) == len(numbers)


def test_the_transport_describes_itself(transport: GlooTransport) -> None:
    assert transport.describe() == {"name": "gloo", "version": torch.__version__}
