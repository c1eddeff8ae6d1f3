"""Users' objects and calls that do not fit our protocol are refused in one line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.config.user_arms import Adapter
from nccl_bench.errors import InvalidArgumentError, SetupError
from tests.support.noting_communicators import Adapting, Noting, NotingOurs, Switched, in_place, switched
from tests.support.small_user_communicators import make_all_reduce
from tests.support.user_communicators import EngineAfter, OtherEngine

PROTOCOL, PYNCCL, CALLABLE = Adapter.PROTOCOL, Adapter.PYNCCL, Adapter.CALLABLE


def test_an_option_that_a_method_does_not_take_is_refused_when_it_is_used(adapting: Adapting) -> None:
    x, sizes = torch.zeros(2), [2]
    other, function = adapting(OtherEngine), adapting(in_place)
    for call, says in (
        (lambda: other.all_gather(x, x, sizes), r"OtherEngine.all_gather\(.*\) takes no sizes, and got \[2\]"),
        (lambda: other.broadcast(x, 0, x), "takes no out"),
        (lambda: function.all_reduce(x, RedOp.MAX), r"in_place\(tensor\) takes no op, and got max: it only sums"),
        (lambda: other.send_recv(x, x, 0, 0), "OtherEngine has no send_recv"),
        (lambda: other.change_state(False), "OtherEngine has no change_state"),
    ):
        with pytest.raises(InvalidArgumentError, match=says):
            call()


def making(**attributes: Any) -> Any:
    return lambda group, device: SimpleNamespace(**attributes)


@pytest.mark.parametrize(
    ("target", "adapter", "says"),
    [
        (making(available=False, disabled=True, all_reduce=in_place), None, r"not available .* the group has 1 rank\)"),
        (
            making(disabled=True, custom_all_reduce=in_place),
            None,
            r"is disabled and has no change_state\(True\): it does ",
        ),
        (type("Stuck", (Switched,), {"change_state": lambda self, on: switched(self, False)}), None, "still disabled"),
        (
            making(run=in_place, size=1),
            None,
            r"fits no adapter: give an object with all_reduce\(.* the object has run, size",
        ),
        (making(), None, "the object has nothing"),
        (Noting, PROTOCOL, "does not fit Noting, whose `op` is torch.distributed's ReduceOp: use adapter=pynccl"),
        (NotingOurs, PYNCCL, "whose `op` is nccl_bench's RedOp: use adapter=protocol"),
        (EngineAfter, CALLABLE, "needs a function of one tensor, and EngineAfter cannot be called"),
        (make_all_reduce, PYNCCL, "the pynccl adapter looks for all_reduce.* has none of these"),
        (lambda a, b, c: None, None, r"\(a, b, c\) cannot be called: take \(group, device\) to make a communicator"),
        (lambda group: None, None, r"\(group\) cannot be called"),
        (lambda group, device: None, None, "returned None: it must return the communicator that it makes"),
        (making(all_reduce=lambda x, y: None), None, r"with these arguments, and got .*\(x, y\)"),
        (lambda tensor: tensor[1:], None, r"torch.float32 of shape \(64,\) returned a torch.float32 of shape \(63,\)"),
        (lambda tensor: tensor.double(), None, r"returned a torch.float64 of shape \(64,\): return None, the input"),
        (lambda tensor: "handle", None, r"test_refusals.py:\d+\) of a .* returned a str"),
    ],
)
def test_a_target_that_does_not_fit_is_refused_in_one_line(
    target: Any, adapter: Adapter | None, says: str, adapting: Adapting
) -> None:
    with pytest.raises(SetupError, match=says) as refused:
        adapting(target, adapter)
    assert "\n" not in str(refused.value)
