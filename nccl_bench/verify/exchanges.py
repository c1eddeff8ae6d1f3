"""Collectives whose results every rank can work out, small and large, even and uneven.

The values are a proof's own and simpler than a benchmark's: float32, so small that every sum is exact, and in each
element different from what was there before, since a stale input is what has to show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nccl_bench.config.sizes import format_size

_ITEMSIZE = 4
# Sums of numbers below this are exact in float32 for thousands of ranks.
_MODULUS = 251
_SALT_STEP = 101
_RANK_STEP = 29
POISON = -1.0
OUTPLACE_ALL_REDUCE = "outplace_all_reduce"


@dataclass(frozen=True, slots=True, kw_only=True)
class Participants:
    """Who takes part, and where this rank's tensors lie."""

    rank: int
    size: int
    device: torch.device

    def input(self, rank: int, salt: int, shape: tuple[int, ...]) -> Tensor:
        """What ``rank`` sends; two salts below 251 have no element in common."""
        count = shape[0] * shape[1]
        numbers = torch.arange(count, device=self.device) + rank * _RANK_STEP + salt * _SALT_STEP
        return (numbers % _MODULUS).to(torch.float32).view(shape)

    def inputs(self, salt: int, shape: tuple[int, ...]) -> list[Tensor]:
        """What every rank sends, where all send as much."""
        return [self.input(rank, salt, shape) for rank in range(self.size)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One collective, from ``x`` to ``y``, which are the same tensor where it is in place.

    ``operation_name`` is what a coordinator's table calls it. ``fresh(salt)`` is an input of this rank's and
    ``expected(salt)`` its result of everybody's; ``run(communicator, x, y)`` does it.
    """

    name: str
    operation_name: str
    x: Tensor
    y: Tensor
    fresh: Callable[[int], Tensor]
    expected: Callable[[int], Tensor]
    run: Callable[[Any, Tensor, Tensor], object]

    def operation(self, communicator: Any) -> Callable[[], object]:
        """The collective as a call on ``communicator``, in no order with anything."""
        return partial(self.run, communicator, self.x, self.y)

    def reset(self, salt: int) -> None:
        """Poison the output and write the input of ``salt``; the device has to be idle."""
        self.y.fill_(POISON)
        self.x.copy_(self.fresh(salt))

    def wrong(self, result: Tensor, salt: int) -> str | None:
        """What is wrong with ``result``, or ``None``."""
        expected = self.expected(salt)
        different = (result != expected).flatten()
        count = int(different.sum())
        if not count:
            return None
        first = int(different.nonzero()[0])
        return (
            f"{count} of {different.numel()} elements are wrong; element {first} is {result.flatten()[first]:g} and "
            f"has to be {expected.flatten()[first]:g}"
        )


def _all_reduce(world: Participants, size_bytes: int) -> Exchange:
    shape = (size_bytes // _ITEMSIZE, 1)
    tensor = torch.empty(shape, device=world.device)
    return Exchange(
        operation_name="all_reduce",
        name=f"all_reduce {format_size(size_bytes)}",
        x=tensor,
        y=tensor,
        fresh=lambda salt: world.input(world.rank, salt, shape),
        expected=lambda salt: sum_of(world.inputs(salt, shape)),
        run=lambda communicator, x, y: communicator.all_reduce(x),
    )


def _outplace_all_reduce(world: Participants, size_bytes: int) -> Exchange:
    shape = (size_bytes // _ITEMSIZE, 1)
    return Exchange(
        operation_name="all_reduce",
        name=f"out-of-place all_reduce {format_size(size_bytes)}",
        x=torch.empty(shape, device=world.device),
        y=torch.empty(shape, device=world.device),
        fresh=lambda salt: world.input(world.rank, salt, shape),
        expected=lambda salt: sum_of(world.inputs(salt, shape)),
        run=lambda communicator, x, y: communicator.outplace_all_reduce(x, y),
    )


def _all_gather(world: Participants, size_bytes: int, *, uneven: bool) -> Exchange:
    sizes, columns = _blocks(world, size_bytes, uneven)
    return Exchange(
        operation_name="all_gatherv" if uneven else "all_gather",
        name=f"all_gather{' with sizes' if uneven else ''} {format_size(size_bytes)}",
        x=torch.empty((sizes[world.rank], columns), device=world.device),
        y=torch.empty((sum(sizes), columns), device=world.device),
        fresh=lambda salt: world.input(world.rank, salt, (sizes[world.rank], columns)),
        expected=lambda salt: torch.cat([world.input(r, salt, (rows, columns)) for r, rows in enumerate(sizes)]),
        run=lambda communicator, x, y: communicator.all_gather(y, x, sizes if uneven else None),
    )


def _reduce_scatter(world: Participants, size_bytes: int, *, uneven: bool) -> Exchange:
    sizes, columns = _blocks(world, size_bytes, uneven)
    whole = (sum(sizes), columns)
    return Exchange(
        operation_name="reduce_scatterv" if uneven else "reduce_scatter",
        name=f"reduce_scatter{' with sizes' if uneven else ''} {format_size(size_bytes)}",
        x=torch.empty(whole, device=world.device),
        y=torch.empty((sizes[world.rank], columns), device=world.device),
        fresh=lambda salt: world.input(world.rank, salt, whole),
        expected=lambda salt: torch.split(sum_of(world.inputs(salt, whole)), sizes)[world.rank],
        run=lambda communicator, x, y: communicator.reduce_scatter(y, x, sizes=sizes if uneven else None),
    )


def sum_of(tensors: list[Tensor]) -> Tensor:
    """The element-wise sum."""
    return torch.stack(tensors).sum(0)


def _blocks(world: Participants, size_bytes: int, uneven: bool) -> tuple[list[int], int]:
    """Rows of each rank's block, and columns, of a tensor of about ``size_bytes``."""
    sizes = [rank + 1 if uneven else 1 for rank in range(world.size)]
    return sizes, max(1, size_bytes // _ITEMSIZE // sum(sizes))


EXCHANGES: Mapping[str, Callable[[Participants, int], Exchange]] = {
    "all_reduce": _all_reduce,
    OUTPLACE_ALL_REDUCE: _outplace_all_reduce,
    "all_gather": partial(_all_gather, uneven=False),
    "all_gatherv": partial(_all_gather, uneven=True),
    "reduce_scatter": partial(_reduce_scatter, uneven=False),
    "reduce_scatterv": partial(_reduce_scatter, uneven=True),
}
