"""The results of users' calls: handles, tuples, lists and tensors of other shapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nccl_bench.catalog.collectives import Placement
from nccl_bench.errors import SetupError
from nccl_bench.user_arms.blocks import ListCall
from nccl_bench.user_arms.results import HandleForm, placement_of, unpack, waiting


class Handle:
    """A handle to wait for, like torch.distributed's."""

    def __init__(self) -> None:
        self.waits = 0

    def wait(self) -> None:
        self.waits += 1


X, Y = torch.zeros(4), torch.ones(4)
HANDLE = Handle()


@pytest.mark.parametrize(
    ("result", "output", "handles"),
    [
        (None, None, []),
        (X, X, []),
        (HANDLE, None, [HANDLE]),
        ((X, HANDLE), X, [HANDLE]),
        ((X, None), X, []),
        ((None, HANDLE), None, [HANDLE]),
        ([X, Y], [X, Y], []),
        ((X, Y), [X, Y], []),
        ([X], X, []),
        ((), None, []),
        (3, 3, []),
    ],
)
def test_an_output_is_separated_from_its_handles(result: object, output: Any, handles: list[Handle]) -> None:
    got, waited = unpack(result)
    assert waited == handles
    assert got is output or got == output


LATER = [X, Y, None, HANDLE, (X, HANDLE), (HANDLE, X), (X, None), (X, HANDLE, HANDLE)]


@pytest.mark.parametrize("first", [HANDLE, (X, HANDLE), (HANDLE, X), [X, HANDLE], (X, HANDLE, HANDLE), None])
@pytest.mark.parametrize("later", LATER)
def test_every_handle_is_waited_for_whatever_the_first_call_has_returned(first: object, later: Any) -> None:
    def call(_tensor: torch.Tensor, *, scale: int = 1) -> object:
        assert scale == 3
        return later

    waited = waiting(call, HandleForm.of(first))
    output, handles = unpack(later)
    HANDLE.waits = 0
    assert waited(X, scale=3) is output
    assert HANDLE.waits == len(handles)
    assert waited.__qualname__ == call.__qualname__


@pytest.mark.parametrize(
    ("output", "placement"),
    [
        (None, None),
        (X, Placement.IN_PLACE),
        (X.view(2, 2), Placement.IN_PLACE),
        (Y, Placement.RETURNED),
        (Y.view(2, 2), Placement.RETURNED),
        (list(Y.view(2, 2)), Placement.RETURNED),
    ],
)
def test_a_result_shows_the_placement_of_its_call(output: object, placement: Placement | None) -> None:
    assert placement_of(waiting, output, X, X) is placement


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (Y[:3], r"returned a torch\.float32 of shape \(3,\): return None, the input, or a new tensor like the input"),
        (Y.double(), r"returned a torch\.float64 of shape \(4,\)"),
        (Y.to("meta"), r"returned a torch\.float32 of shape \(4,\) on meta"),
        ([Y, Y], r"returned a list of 2, among them a torch\.float32 of shape \(4,\)"),
        ([Y, 3], r"returned a list of 2, among them a torch\.float32"),
        (Y.tolist(), "returned a list: return None"),
        (3, "returned a int"),
    ],
)
def test_a_result_that_cannot_be_right_is_refused(output: object, says: str) -> None:
    with pytest.raises(SetupError, match=says):
        placement_of(waiting, output, X, X)


def test_a_result_of_another_size_than_the_input_has_to_be_new() -> None:
    with pytest.raises(SetupError, match=r"returned a .*: return a new torch\.float32 of shape \(8,\)"):
        placement_of(waiting, Y, X, torch.zeros(8))


def test_a_list_form_gets_views_of_the_tensor_and_only_the_root_gets_a_list() -> None:
    got: list[Any] = []
    output = torch.zeros(6)

    def gather(blocks: list[torch.Tensor] | None, source: torch.Tensor, root: int) -> None:
        got.append(blocks)
        for number, block in enumerate(blocks or []):
            block.fill_(number)

    call = ListCall(gather, {0: 3}, root=2, rank=1)
    call(output, X, 0)
    call(output, X, 1)
    bound = call.bind(output, X, 1)
    bound()
    bound()
    assert got[0] is None
    assert got[2] is got[3]
    assert output.tolist() == [0, 0, 1, 1, 2, 2]
    assert call.__qualname__ == gather.__qualname__


def test_a_list_form_can_wait_for_handles() -> None:
    handle = Handle()
    call = ListCall(lambda blocks: handle, {0: 2}, root=None, rank=0).around(waiting)
    call(torch.zeros(2))
    call.bind(torch.zeros(2))()
    assert handle.waits == 2
