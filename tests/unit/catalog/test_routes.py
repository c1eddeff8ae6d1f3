"""The routing table has the engines' defaults."""

from __future__ import annotations

import inspect
from typing import get_type_hints

from torch import Tensor

from nccl_bench.catalog.routes import ROUTED_OPERATIONS, ROUTES, UNROUTED, Backend, Mode
from nccl_bench.communicators.coordinator import GroupCoordinator


def test_by_default_torch_carries_everything_eagerly_and_the_communicator_in_graphs() -> None:
    assert tuple(ROUTES) == ROUTED_OPERATIONS
    assert all(row == {Mode.EAGER: Backend.TORCH, Mode.GRAPH: Backend.COMMUNICATOR} for row in ROUTES.values())


def test_every_operation_of_the_coordinator_is_routed_or_has_a_reason() -> None:
    # A method that takes a tensor communicates.
    takes_tensors = {
        name
        for name, value in vars(GroupCoordinator).items()
        if name[0] != "_" and inspect.isfunction(value) and Tensor in get_type_hints(value).values()
    }
    operations = takes_tensors - {"outplace_all_reduce", "return_all_reduce"}
    assert operations | {"barrier"} == {*ROUTED_OPERATIONS, *UNROUTED}
