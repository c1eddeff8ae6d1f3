"""The ``Communicator`` protocol, and the call of each collective through it.

A communicator decides which stream a collective runs on. Ranks (``src``, ``dst``, ``root``) are ranks in the
communicator's group. Tensors are contiguous and on the communicator's device; counts are in elements. Each operation
only queues its work and returns before the device has done the work. In the communicators, a method without a docstring
does what the docstring in the protocol says.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import RedOp
from nccl_bench.errors import InvalidArgumentError

Operation = Callable[[], object]


class Communicator(Protocol):
    """The operations that every arm's communicator has."""

    rank: int  # this process's rank in the group
    world_size: int  # the number of ranks in the group
    stream: Any  # the private stream, which the caller must order; None if work runs on the current stream

    def all_reduce(self, tensor: Tensor, op: RedOp = RedOp.SUM) -> None:
        """Reduce ``tensor`` over all ranks, in place."""

    def outplace_all_reduce(self, input: Tensor, out: Tensor | None = None, op: RedOp = RedOp.SUM) -> Tensor:
        """Reduce ``input`` over all ranks into ``out`` or, without ``out``, into a new tensor; return the output."""

    def all_gather(self, output: Tensor, input: Tensor, sizes: Sequence[int] | None = None) -> None:
        """Gather every rank's ``input`` into ``output``. With ``sizes``, the input of rank r has ``sizes[r]`` rows."""

    def reduce_scatter(
        self, output: Tensor, input: Tensor, op: RedOp = RedOp.SUM, sizes: Sequence[int] | None = None
    ) -> None:
        """Reduce ``input``; rank r gets block r in ``output``. With ``sizes``, block r has ``sizes[r]`` rows."""

    def all_to_all(self, output: Tensor, input: Tensor) -> None:
        """Send block r of ``input`` to rank r, and receive block r of ``output`` from rank r."""

    def broadcast(self, tensor: Tensor, src: int, out: Tensor | None = None) -> None:
        """Send ``tensor`` of rank ``src`` to ``out`` (without ``out``, to ``tensor``) of every rank."""

    def reduce(self, tensor: Tensor, dst: int, op: RedOp = RedOp.SUM, out: Tensor | None = None) -> None:
        """Reduce ``tensor`` of every rank into ``out`` (without ``out``, into ``tensor``) of rank ``dst``."""

    def gather(self, output: Tensor, input: Tensor, dst: int) -> None:
        """Gather every rank's ``input`` into ``output`` of rank ``dst``; do not change ``output`` of other ranks."""
        raise InvalidArgumentError(f"{type(self).__name__} has no gather")

    def send_recv(self, output: Tensor, input: Tensor, dst: int, src: int) -> None:
        """Send ``input`` to rank ``dst`` and receive ``output`` from rank ``src``, as one operation."""

    def change_state(self, enable: bool | None = None) -> AbstractContextManager[None]:
        """Enable or disable the communicator in a ``with`` block; then restore the state, even after an exception.

        ``None`` enables the communicator if it is available, and otherwise disables it.
        """

    def close(self) -> None:
        """Release the resources of the communicator. A second call does nothing."""


def _all_reduce(comm: Communicator, case: Case, x: Tensor, y: Tensor) -> Operation:
    op = case.redop or RedOp.SUM
    return partial(comm.all_reduce, x, op) if y is x else partial(comm.outplace_all_reduce, x, y, op)


def _broadcast(comm: Communicator, case: Case, x: Tensor, y: Tensor) -> Operation:
    return partial(comm.broadcast, x, case.root or 0, None if y is x else y)


def _reduce(comm: Communicator, case: Case, x: Tensor, y: Tensor) -> Operation:
    return partial(comm.reduce, x, case.root or 0, case.redop or RedOp.SUM, None if y is x else y)


def _send_recv(comm: Communicator, case: Case, x: Tensor, y: Tensor) -> Operation:
    return partial(comm.send_recv, y, x, *_neighbours(comm))


def _sizes(comm: Communicator, case: Case) -> list[int]:
    return case.row.block_counts(case.count, comm.world_size)


def _neighbours(comm: Communicator) -> tuple[int, int]:
    return (comm.rank + 1) % comm.world_size, (comm.rank - 1) % comm.world_size


# Collective -> its call with input `x` and output `y`. If `y` is `x`, the call works in place. For the placement
# `returned` see RETURNING.
CALLS: Mapping[str, Callable[[Communicator, Case, Tensor, Tensor], Operation]] = {
    "all_reduce": _all_reduce,
    "all_gather": lambda comm, case, x, y: partial(comm.all_gather, y, x),
    "reduce_scatter": lambda comm, case, x, y: partial(comm.reduce_scatter, y, x, case.redop or RedOp.SUM),
    "all_gatherv": lambda comm, case, x, y: partial(comm.all_gather, y, x, sizes=_sizes(comm, case)),
    "reduce_scatterv": lambda comm, case, x, y: partial(
        comm.reduce_scatter, y, x, case.redop or RedOp.SUM, sizes=_sizes(comm, case)
    ),
    "all_to_all": lambda comm, case, x, y: partial(comm.all_to_all, y, x),
    "broadcast": _broadcast,
    "reduce": _reduce,
    "gather": lambda comm, case, x, y: partial(comm.gather, y, x, case.root or 0),
    "send_recv": _send_recv,
}

# The method that returns the output of a collective as a new tensor has the name of the collective with this prefix.
RETURNING_PREFIX = "return_"
# Collective -> the arguments of its returning method, after the input.
RETURNING: Mapping[str, Callable[[Communicator, Case], tuple[object, ...]]] = {
    "all_reduce": lambda comm, case: (case.redop or RedOp.SUM,),
    "all_gather": lambda comm, case: (),
    "reduce_scatter": lambda comm, case: (case.redop or RedOp.SUM,),
    "all_to_all": lambda comm, case: (),
    "broadcast": lambda comm, case: (case.root or 0,),
    "reduce": lambda comm, case: (case.root or 0, case.redop or RedOp.SUM),
    "gather": lambda comm, case: (case.root or 0,),
    "send_recv": lambda comm, case: _neighbours(comm),
}
