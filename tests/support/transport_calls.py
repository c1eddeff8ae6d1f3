"""Calls of the NCCL transport, each with the call that libnccl must get."""

from __future__ import annotations

from collections.abc import Callable

from nccl_bench.transports.nccl import NcclTransport, ReduceOp
from tests.support.fake_nccl import Call

Transfer = Callable[[NcclTransport, int], None]
Lifetime = Callable[[NcclTransport, int], object]

# Each argument has its own value, so that exchanged arguments are noticed. 64-bit arguments do not fit in an int.
SEND, RECV, COUNT, STREAM = 2**40, 2**41, 2**42, 2**43
TRANSFERS: list[tuple[Transfer, Call]] = [
    (
        lambda t, comm: t.all_reduce(SEND, RECV, COUNT, 4, 5, comm, STREAM),
        Call(function="ncclAllReduce", depth=0, send=SEND, recv=RECV, count=COUNT, dtype=4, op=5, stream=STREAM),
    ),
    (
        lambda t, comm: t.all_gather(SEND, RECV, COUNT, 4, comm, STREAM),
        Call(function="ncclAllGather", depth=0, send=SEND, recv=RECV, count=COUNT, dtype=4, stream=STREAM),
    ),
    (
        lambda t, comm: t.reduce_scatter(SEND, RECV, COUNT, 4, 5, comm, STREAM),
        Call(function="ncclReduceScatter", depth=0, send=SEND, recv=RECV, count=COUNT, dtype=4, op=5, stream=STREAM),
    ),
    (
        lambda t, comm: t.all_to_all(SEND, RECV, COUNT, 4, comm, STREAM),
        Call(function="ncclAlltoAll", depth=0, send=SEND, recv=RECV, count=COUNT, dtype=4, stream=STREAM),
    ),
    (
        lambda t, comm: t.broadcast(SEND, RECV, COUNT, 4, 5, comm, STREAM),
        Call(function="ncclBroadcast", depth=0, send=SEND, recv=RECV, count=COUNT, dtype=4, root=5, stream=STREAM),
    ),
    (
        lambda t, comm: t.reduce(SEND, RECV, COUNT, 4, 5, 6, comm, STREAM),
        Call(function="ncclReduce", depth=0, send=SEND, recv=RECV, count=COUNT, dtype=4, op=5, root=6, stream=STREAM),
    ),
    (
        lambda t, comm: t.send(SEND, COUNT, 4, 5, comm, STREAM),
        Call(function="ncclSend", depth=0, send=SEND, count=COUNT, dtype=4, peer=5, stream=STREAM),
    ),
    (
        lambda t, comm: t.recv(SEND, COUNT, 4, 5, comm, STREAM),
        Call(function="ncclRecv", depth=0, recv=SEND, count=COUNT, dtype=4, peer=5, stream=STREAM),
    ),
]
LIFETIMES: list[tuple[Lifetime, Call]] = [
    (lambda t, comm: t.destroy(comm), Call(function="ncclCommDestroy", depth=0)),
    (lambda t, comm: t.abort(comm), Call(function="ncclCommAbort", depth=0)),
    (
        lambda t, comm: t.window_register(comm, SEND, COUNT, 3),
        Call(function="ncclCommWindowRegister", depth=0, pointer=SEND, size=COUNT, flags=3),
    ),
    (
        lambda t, comm: t.register(comm, SEND, COUNT),
        Call(function="ncclCommRegister", depth=0, pointer=SEND, size=COUNT),
    ),
    (lambda t, comm: t.deregister(comm, SEND), Call(function="ncclCommDeregister", depth=0, handle=SEND)),
    (lambda t, comm: t.window_deregister(comm, SEND), Call(function="ncclCommWindowDeregister", depth=0, window=SEND)),
]
WITHOUT_COMM: list[tuple[Lifetime, str]] = [
    (lambda t, _: t.unique_id(), "ncclGetUniqueId"),
    (lambda t, _: t.init_rank(1, bytes(128), 0), "ncclCommInitRank"),
    (lambda t, _: t.mem_alloc(8), "ncclMemAlloc"),
    (lambda t, _: t.mem_free(0), "ncclMemFree"),
    (lambda t, _: t.group_start(), "ncclGroupStart"),
]
ON_A_COMM = [*TRANSFERS, *LIFETIMES]
ANY_CALL = [*((call, expected.function) for call, expected in ON_A_COMM), *WITHOUT_COMM]
# Called as `call(transport, send, recv, count, dtype, comm)`; rank 0 is the root.
COPIES: dict[str, Callable[[NcclTransport, int, int, int, int, int], None]] = {
    "all_reduce": lambda t, s, r, n, dtype, comm: t.all_reduce(s, r, n, dtype, ReduceOp.SUM, comm, 0),
    "all_gather": lambda t, s, r, n, dtype, comm: t.all_gather(s, r, n, dtype, comm, 0),
    "reduce_scatter": lambda t, s, r, n, dtype, comm: t.reduce_scatter(s, r, n, dtype, ReduceOp.SUM, comm, 0),
    "all_to_all": lambda t, s, r, n, dtype, comm: t.all_to_all(s, r, n, dtype, comm, 0),
    "broadcast": lambda t, s, r, n, dtype, comm: t.broadcast(s, r, n, dtype, 0, comm, 0),
    "reduce": lambda t, s, r, n, dtype, comm: t.reduce(s, r, n, dtype, ReduceOp.SUM, 0, comm, 0),
}
