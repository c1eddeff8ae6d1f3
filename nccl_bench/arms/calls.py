"""The call of each collective on an arm's communicator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import RedOp
from nccl_bench.communicators.base import Communicator, Operation


def _all_reduce(comm: Communicator, case: Case, x: Tensor, y: Tensor) -> Operation:
    op = case.redop or RedOp.SUM
    return partial(comm.all_reduce, x, op) if y is x else partial(comm.outplace_all_reduce, x, y, op)


def _broadcast(comm: Communicator, case: Case, x: Tensor, y: Tensor) -> Operation:
    return partial(comm.broadcast, x, case.root or 0, None if y is x else y)


def _reduce(comm: Communicator, case: Case, x: Tensor, y: Tensor) -> Operation:
    return partial(comm.reduce, x, case.root or 0, case.redop or RedOp.SUM, None if y is x else y)


def _send_recv(comm: Communicator, case: Case, x: Tensor, y: Tensor) -> Operation:
    return partial(comm.send_recv, y, x, (comm.rank + 1) % comm.world_size, (comm.rank - 1) % comm.world_size)


# Collective -> its call from input `x` to output `y`, which are the same tensor if it is in place on the whole buffer.
CALLS: Mapping[str, Callable[[Communicator, Case, Tensor, Tensor], Operation]] = {
    "all_reduce": _all_reduce,
    "all_gather": lambda comm, case, x, y: partial(comm.all_gather, y, x),
    "reduce_scatter": lambda comm, case, x, y: partial(comm.reduce_scatter, y, x, case.redop or RedOp.SUM),
    "all_to_all": lambda comm, case, x, y: partial(comm.all_to_all, y, x),
    "broadcast": _broadcast,
    "reduce": _reduce,
    "send_recv": _send_recv,
}
