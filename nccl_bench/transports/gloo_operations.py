"""Operations of Gloo, as a CPU stream runs them when it reaches them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.errors import TransportError
from nccl_bench.streams.cpu import Event

TORCH_DTYPES = tuple(getattr(torch, name) for name in DTYPES)
# For operations that only move bytes: Gloo does not know float8.
WIRE_DTYPES = tuple(torch.uint8 if name.startswith("float8") else getattr(torch, name) for name in DTYPES)
TORCH_REDOPS: Mapping[RedOp, Any] = {
    RedOp.SUM: dist.ReduceOp.SUM,
    RedOp.PROD: dist.ReduceOp.PRODUCT,
    RedOp.MIN: dist.ReduceOp.MIN,
    RedOp.MAX: dist.ReduceOp.MAX,
    RedOp.AVG: dist.ReduceOp.AVG,
}


@dataclass(slots=True)
class GlooComm:
    """A communicator."""

    group: Any  # the ProcessGroupGloo
    rank: int  # this rank in the communicator
    world_size: int  # the number of ranks
    name: str  # the prefix of its keys in the store
    last: Event = field(default_factory=Event)  # recorded after its latest operation
    last_stream: int = -1  # the handle of the stream of its latest operation
    splits: int = 0  # how often it was split; makes the names of the parts
    aborted: bool = False  # True makes its queued operations fail


# Starts one operation on a communicator's Gloo group, and returns an object with `wait()`.
Start = Callable[[GlooComm], Any]
Operation = tuple[GlooComm, Start]


@dataclass(frozen=True, slots=True, kw_only=True)
class _SelfMessage:
    """An end of a rank's message to itself. Gloo has no connection from a rank to itself."""

    comm: GlooComm
    method: str  # send or recv
    tensor: Tensor

    def wait(self) -> None:
        """Return at once: ``_deliver`` has copied the message."""


def run(operations: Sequence[Operation]) -> None:
    """Start all ``operations`` of a group, then wait for them. Waiting for one before the next would block a ring."""
    if any(comm.aborted for comm, _ in operations):
        raise TransportError("Gloo: the communicator was aborted before the operation ran")
    try:
        works = [start(comm) for comm, start in operations]
        _deliver([work for work in works if isinstance(work, _SelfMessage)])
        for work in works:
            work.wait()
    except (RuntimeError, ValueError) as error:
        raise TransportError(f"Gloo: {error}") from error


def exchange(comm: GlooComm, buffer: int, count: int, dtype: int, peer: int, method: str) -> Any:
    """Start ``method``, which is ``send`` or ``recv``, of ``count`` elements with ``peer``."""
    tensor = tensor_at(buffer, count, WIRE_DTYPES[dtype])
    if peer == comm.rank:
        return _SelfMessage(comm=comm, method=method, tensor=tensor)
    return getattr(comm.group, method)([tensor], peer, 0)


def _deliver(messages: Sequence[_SelfMessage]) -> None:
    """Copy the messages of ranks to themselves. As in NCCL, both ends have to be in one group."""
    for comm in {id(message.comm): message.comm for message in messages}.values():
        sends, recvs = (
            [message.tensor for message in messages if message.comm is comm and message.method == method]
            for method in ("send", "recv")
        )
        if len(sends) != len(recvs):
            raise TransportError(
                f"Gloo: rank {comm.rank} sends itself {len(sends)} messages and receives {len(recvs)}: "
                "issue both ends in one group, on one stream"
            )
        for sent, received in zip(sends, recvs, strict=True):
            received.copy_(sent)


def copied(send: int, recv: int, count: int, dtype: torch.dtype) -> Tensor:
    """Return the tensor at ``recv``, with the elements at ``send`` copied into it."""
    target = tensor_at(recv, count, dtype)
    if send != recv:
        target.copy_(tensor_at(send, count, dtype))
    return target


def tensor_at(pointer: int, count: int, dtype: torch.dtype) -> Tensor:
    """Return the memory at ``pointer`` as a tensor that does not own it: ``Transport.retain`` keeps it alive."""
    if count == 0:
        return torch.empty(0, dtype=dtype)
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(pointer)
    return torch.frombuffer(memory, dtype=dtype)
