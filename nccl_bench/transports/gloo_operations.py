"""The operations of Gloo that a CPU stream runs."""

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
# Types for operations that only move bytes. Gloo has no float8, so float8 is moved as uint8.
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
    """A communicator of Gloo and its state."""

    group: Any  # the ProcessGroupGloo
    rank: int  # the number of this rank in the communicator
    world_size: int  # the number of ranks
    last: Event = field(default_factory=Event)  # the event that was recorded after the latest operation
    last_stream: int = -1  # the handle of the stream that the latest operation used
    aborted: bool = False  # True after `abort`; queued operations then fail


# A function that starts one operation on a communicator's Gloo group, and returns an object with `wait()`.
Start = Callable[[GlooComm], Any]
GlooOperation = tuple[GlooComm, Start]


@dataclass(frozen=True, slots=True, kw_only=True)
class _SelfMessage:
    """A send or a receive of a message from a rank to itself. Gloo cannot transmit such a message."""

    comm: GlooComm
    method: str  # "send" or "recv"
    tensor: Tensor

    def wait(self) -> None:
        """Do nothing: ``_deliver`` has already copied the message."""


def run_group(operations: Sequence[GlooOperation]) -> None:
    """Start all ``operations`` of a group, then wait for all. A wait after each start would hang a ring of ranks."""
    if any(comm.aborted for comm, _ in operations):
        raise TransportError("Gloo: the communicator was aborted before the operation ran")
    try:
        works = [start(comm) for comm, start in operations]
        _deliver([work for work in works if isinstance(work, _SelfMessage)])
        for work in works:
            work.wait()
    except (RuntimeError, ValueError) as error:
        raise TransportError(f"Gloo: {error}") from error


def start_message(comm: GlooComm, buffer: int, count: int, dtype: int, peer: int, method: str) -> Any:
    """Start to send ``count`` elements to rank ``peer``, or to receive them; ``method`` is ``send`` or ``recv``."""
    tensor = tensor_at(buffer, count, WIRE_DTYPES[dtype])
    if peer == comm.rank:
        return _SelfMessage(comm=comm, method=method, tensor=tensor)
    return getattr(comm.group, method)([tensor], peer, 0)


def _deliver(messages: Sequence[_SelfMessage]) -> None:
    """Copy each message from a rank to itself. As in NCCL, a message's send and receive must be in one group."""
    for comm in {id(message.comm): message.comm for message in messages}.values():
        sends, recvs = (
            [message.tensor for message in messages if message.comm is comm and message.method == method]
            for method in ("send", "recv")
        )
        if len(sends) != len(recvs):
            raise TransportError(
                f"Gloo: rank {comm.rank} sends {len(sends)} messages to itself and receives {len(recvs)}: "
                "issue each send and its receive in one group, on one stream"
            )
        for sent, received in zip(sends, recvs, strict=True):
            received.copy_(sent)


def copied(send: int, recv: int, count: int, dtype: torch.dtype) -> Tensor:
    """Copy the elements at ``send`` to ``recv``, and return the tensor at ``recv``."""
    target = tensor_at(recv, count, dtype)
    if send != recv:
        target.copy_(tensor_at(send, count, dtype))
    return target


def tensor_at(pointer: int, count: int, dtype: torch.dtype) -> Tensor:
    """Return a tensor that uses the memory at ``pointer``; ``Transport.retain`` keeps that memory alive."""
    if count == 0:
        return torch.empty(0, dtype=dtype)
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(pointer)
    return torch.frombuffer(memory, dtype=dtype)
