"""The results of calls of a user's object: the placement that each one shows, and the error for a wrong one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import Placement, RedOp
from nccl_bench.errors import InvalidArgumentError, SetupError
from tests.support.noting_communicators import Adapting

IN, OUT, RETURNED = Placement.IN_PLACE, Placement.OUT_OF_PLACE, Placement.RETURNED

LATER = 65  # more elements than the all-reduce that is tried
ALL_REDUCE = Case(
    scenario=Scenario.ISOLATED,
    collective="all_reduce",
    dtype="float32",
    redop=RedOp.SUM,
    placement=RETURNED,
    root=None,
    size_bytes=4,
    count=1,
)


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (lambda tensor: tensor[1:].clone(), r"torch.float32 of shape \(64,\)"),
        (lambda tensor: tensor.half(), r"torch.float16 of shape \(65,\)"),
        (lambda tensor: tensor.to("meta"), r"torch.float32 of shape \(65,\) on meta"),
        (lambda tensor: tensor.tolist(), "list"),
    ],
)
def test_the_error_for_a_wrong_result_of_a_later_call_names_the_users_line(
    wrong: Any, got: str, adapting: Adapting
) -> None:
    def sum_of(tensor: Tensor) -> Any:
        return wrong(tensor) if tensor.numel() == LATER else tensor.clone()

    communicator, line = adapting(sum_of), sum_of.__code__.co_firstlineno
    place = rf"sum_of \(.*test_results_of_calls.py:{line}\)"
    message = rf"{place} of a torch.float32 of .* returned a {got}: return None, the input"
    given = torch.ones(LATER)
    with pytest.raises(SetupError, match=message):
        communicator.examine(ALL_REDUCE, communicator.returning("all_reduce")(given), given, torch.ones(LATER))
    few = torch.ones(3)
    assert communicator.examine(ALL_REDUCE, communicator.returning("all_reduce")(few), few, few) is RETURNED


@pytest.mark.parametrize(("first", "later"), [(IN, RETURNED), (RETURNED, IN)])
def test_the_result_of_each_call_shows_its_placement(first: Placement, later: Placement, adapting: Adapting) -> None:
    def sum_of(tensor: Tensor) -> Tensor:
        in_place = first is IN if tensor.numel() < LATER else later is IN
        return tensor if in_place else tensor.clone()

    communicator = adapting(sum_of)
    assert communicator.supported == (("all_reduce", first),)
    for size, placement in ((3, first), (LATER, later)):
        given = torch.ones(size)
        result = communicator.all_reduce(given)
        assert communicator.examine(replace(ALL_REDUCE, placement=first), result, given, given) is placement


def test_a_method_with_an_output_returns_a_new_tensor_without_one(adapting: Adapting) -> None:
    """The method is called so by default, as in its engine."""
    outputs: list[Tensor | None] = []

    def all_reduce(tensor: Tensor, out_tensor: Tensor | None = None) -> Tensor:
        outputs.append(out_tensor)
        return tensor.clone() if out_tensor is None else out_tensor.copy_(tensor)

    communicator, x = adapting(all_reduce), torch.ones(2)
    assert communicator.supported == (("all_reduce", RETURNED), ("all_reduce", IN), ("all_reduce", OUT))
    result: Any = communicator.returning("all_reduce")(x)
    assert (result is x, result.tolist(), outputs[-1]) == (False, [1, 1], None)
    with pytest.raises(InvalidArgumentError, match="has no all_gather that returns its output"):
        communicator.returning("all_gather")
