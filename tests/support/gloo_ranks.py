"""Ranks of the transport over Gloo in one process, as communicators of one transport, and calls that tests make."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.streams import cpu
from nccl_bench.transports.gloo import GlooTransport
from tests.support.stream_control import PATIENCE_S

FLOAT32 = GlooTransport.dtypes["float32"]
SUM = GlooTransport.redops[RedOp.SUM]


class Rank:
    """A communicator and the stream of its operations."""

    def __init__(self, comm: int) -> None:
        self.comm = comm
        self.stream = cpu.Stream()


def on_every_rank(call: Callable[[int], int], world_size: int = 2) -> list[int]:
    """Call ``call`` with the number of each rank, all at the same time, and return the results."""
    with ThreadPoolExecutor(world_size) as pool:
        return list(pool.map(call, range(world_size), timeout=PATIENCE_S))


def connect(transport: GlooTransport, world_size: int) -> list[Rank]:
    """Return the ranks of a new communicator."""
    unique_id = transport.unique_id()
    return [Rank(comm) for comm in on_every_rank(lambda r: transport.init_rank(world_size, unique_id, r), world_size)]


def inputs(count: int, dtype: str = "float32", world_size: int = 2) -> list[Tensor]:
    """Return the input of each rank: small numbers, whose sums and products are exact in every data type."""
    return [(torch.arange(count) % 3 + 1 + r).to(getattr(torch, dtype)) for r in range(world_size)]


def poisoned(count: int, like: Tensor) -> Tensor:
    """Return a tensor of the data type of ``like``, with values that no operation writes."""
    return torch.full((count,), 100.0).to(like.dtype)


def all_reduce(transport: GlooTransport, rank: Rank, x: Tensor) -> None:
    """Sum ``x`` over the ranks, in place."""
    handle = rank.stream.handle
    transport.all_reduce(x.data_ptr(), x.data_ptr(), x.numel(), FLOAT32, SUM, rank.comm, handle)
    transport.retain(handle, x)


def copy(transport: GlooTransport, rank: Rank, x: Tensor, y: Tensor, stream: cpu.Stream | None = None) -> None:
    """Copy ``x`` into ``y`` by a broadcast on a communicator of one rank."""
    handle = (stream or rank.stream).handle
    transport.broadcast(x.data_ptr(), y.data_ptr(), x.numel(), FLOAT32, 0, rank.comm, handle)
    transport.retain(handle, x, y)
