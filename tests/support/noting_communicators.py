"""Users' objects that note how they are called, and the type of the function that adapts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.streams import cpu
from nccl_bench.user_arms.communicator import UserCommunicator

SUM = dist.ReduceOp.SUM
# Makes a communicator of a user's object; an adapter and an order can be given.
Adapting = Callable[..., UserCommunicator]


def in_place(tensor: Tensor) -> None:
    """Do the all-reduce of one rank in place, as a user's function."""
    cpu.current_stream().submit(tensor.add_, 0)


def is_closed(adapted: UserCommunicator) -> bool:
    """Return True if a method of the user's object ends it."""
    return adapted.reason_not_ended is None and not adapted.is_dropped


class Noting:
    """An object that records how it is called."""

    def __init__(self, *made_with: object) -> None:
        self.calls: list[object] = []

    def all_reduce(self, tensor: Tensor, op: Any = SUM) -> None:
        self.calls.append(op)


class NotingOurs(Noting):
    """Take the reduction as our protocol names it."""

    def all_reduce(self, tensor: Tensor, op: RedOp = RedOp.SUM) -> None:
        self.calls.append(op)


@contextmanager
def switched(thing: Any, on: bool) -> Iterator[None]:
    """Enable or disable ``thing`` within the context, and disable it at the end."""
    thing.disabled = not on
    try:
        yield
    finally:
        thing.disabled = True


class Switched(Noting):
    """An object that is disabled until somebody enables it, and counts how often it was ended."""

    disabled, ended = True, 0
    change_state = switched

    def shutdown(self) -> None:
        assert self.disabled
        self.ended += 1
