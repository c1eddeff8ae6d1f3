"""Every way to call a communicator, and the tensors that the calls take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp

COLUMNS = 3


class Tensors:
    """Tensors for every call. ``part`` is one rank's share of ``whole``; the ``out_`` tensors hold a wrong value."""

    def __init__(self, rank: int, world_size: int, dtype: torch.dtype = torch.float32, op: RedOp = RedOp.SUM) -> None:
        self.op = op
        self.sizes = [2] if world_size == 1 else [1, 2, 0, 5]
        self.dst, self.src = (rank + 1) % world_size, (rank - 1) % world_size
        self.part, self.out_part = _filled(self.sizes[rank], dtype), _poisoned(self.sizes[rank], dtype)
        self.whole, self.out_whole = _filled(sum(self.sizes), dtype), _poisoned(sum(self.sizes), dtype)

    def contents(self) -> list[list[int]]:
        """Return every byte of every tensor."""
        return [raw_bytes(tensor) for tensor in (self.part, self.out_part, self.whole, self.out_whole)]


def _filled(rows: int, dtype: torch.dtype) -> Tensor:
    return torch.arange(1, rows * COLUMNS + 1, dtype=torch.float32).to(dtype).view(rows, COLUMNS)


def _poisoned(rows: int, dtype: torch.dtype) -> Tensor:
    return torch.full((rows, COLUMNS), 120.0).to(dtype)


def raw_bytes(tensor: Tensor) -> list[int]:
    """Return the bytes of a tensor."""
    return tensor.contiguous().view(torch.uint8).flatten().tolist()


@dataclass(frozen=True, slots=True, kw_only=True)
class CommunicatorCall:
    """A way to call a communicator."""

    method: str  # the communicator's method
    call: Callable[..., object]  # called as `call(communicator, tensors, **stream)`
    source: str = "part"  # the tensor of ``Tensors`` that it reads
    target: str = "part"  # the tensor that it writes; with one rank it then holds what ``source`` held
    reduces: bool = False  # whether it takes a redop


# Calls that move data on their own, by name.
COMPLETE_CALLS = {
    "all_reduce": CommunicatorCall(
        method="all_reduce", call=lambda c, t, **s: c.all_reduce(t.part, t.op, **s), reduces=True
    ),
    "outplace_all_reduce": CommunicatorCall(
        method="outplace_all_reduce", call=lambda c, t, **s: c.outplace_all_reduce(t.part, op=t.op, **s), reduces=True
    ),
    "outplace_all_reduce into out": CommunicatorCall(
        method="outplace_all_reduce",
        call=lambda c, t, **s: c.outplace_all_reduce(t.part, t.out_part, t.op, **s),
        target="out_part",
        reduces=True,
    ),
    "all_gather": CommunicatorCall(
        method="all_gather", call=lambda c, t, **s: c.all_gather(t.out_whole, t.part, **s), target="out_whole"
    ),
    "all_gather with sizes": CommunicatorCall(
        method="all_gather",
        call=lambda c, t, **s: c.all_gather(t.out_whole, t.part, t.sizes, **s),
        target="out_whole",
    ),
    "reduce_scatter": CommunicatorCall(
        method="reduce_scatter",
        call=lambda c, t, **s: c.reduce_scatter(t.out_part, t.whole, t.op, **s),
        source="whole",
        target="out_part",
        reduces=True,
    ),
    "reduce_scatter with sizes": CommunicatorCall(
        method="reduce_scatter",
        call=lambda c, t, **s: c.reduce_scatter(t.out_part, t.whole, t.op, t.sizes, **s),
        source="whole",
        target="out_part",
        reduces=True,
    ),
    "all_to_all": CommunicatorCall(
        method="all_to_all",
        call=lambda c, t, **s: c.all_to_all(t.out_whole, t.whole, **s),
        source="whole",
        target="out_whole",
    ),
    "broadcast": CommunicatorCall(method="broadcast", call=lambda c, t, **s: c.broadcast(t.part, t.src, **s)),
    "broadcast into out": CommunicatorCall(
        method="broadcast", call=lambda c, t, **s: c.broadcast(t.part, t.src, t.out_part, **s), target="out_part"
    ),
    "reduce": CommunicatorCall(
        method="reduce", call=lambda c, t, **s: c.reduce(t.part, t.dst, t.op, **s), reduces=True
    ),
    "reduce into out": CommunicatorCall(
        method="reduce",
        call=lambda c, t, **s: c.reduce(t.part, t.dst, t.op, t.out_part, **s),
        target="out_part",
        reduces=True,
    ),
    "gather": CommunicatorCall(
        method="gather", call=lambda c, t, **s: c.gather(t.out_whole, t.part, c.rank, **s), target="out_whole"
    ),
    "send_recv": CommunicatorCall(
        method="send_recv",
        call=lambda c, t, **s: c.send_recv(t.out_part, t.part, t.dst, t.src, **s),
        target="out_part",
    ),
}
# Calls that need their counterpart: nothing arrives by one of them.
HALF_CALLS = {
    "send": CommunicatorCall(method="send", call=lambda c, t, **s: c.send(t.part, t.dst, **s)),
    "recv": CommunicatorCall(method="recv", call=lambda c, t, **s: c.recv(t.out_part, t.src, **s)),
}


EVERY_CALL = {
    **COMPLETE_CALLS,
    **HALF_CALLS,
    "cp_all_gather_into_tensor": CommunicatorCall(
        method="cp_all_gather_into_tensor",
        call=lambda c, t, stream: c.cp_all_gather_into_tensor(t.out_whole, t.part, stream),
    ),
    "cp_all_gather_into_tensor with sizes": CommunicatorCall(
        method="cp_all_gather_into_tensor",
        call=lambda c, t, stream: c.cp_all_gather_into_tensor(t.out_whole, t.part, stream, t.sizes),
    ),
}
CALLS_ON_A_GIVEN_STREAM = [name for name in EVERY_CALL if name.startswith("cp_")]
# No communicator takes a stream in these: a stream that is given is an error.
CALLS_WITHOUT_A_STREAM = ["gather"]
CALLED_METHODS = {operation.method for operation in EVERY_CALL.values()}


def tensors_for(communicator: Any, dtype: torch.dtype = torch.float32, op: RedOp = RedOp.SUM) -> Tensors:
    """Return tensors for a communicator's rank and world size."""
    return Tensors(communicator.rank, communicator.world_size, dtype, op)
