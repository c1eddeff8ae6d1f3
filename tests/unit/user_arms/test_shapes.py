"""The signatures of engines' methods: how each one is called, and why others are refused.

Each shape is the signature of a method in SGLang 0.5.9 to 0.5.23 and its next version, vLLM 0.6.6 and 0.7.0, or
torch.distributed, or a neighbour of such a signature. The functions do the least that a group of one rank needs.
"""

# Users write few annotations, and many of them in the style of older versions.
# ruff: noqa: UP006, UP035, UP045, A006
# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, List, Optional, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ReduceOp

from nccl_bench.catalog.arms import Order
from nccl_bench.streams import cpu
from nccl_bench.transports.device import open_device
from nccl_bench.user_arms.communicator import UserCommunicator

SUM = ReduceOp.SUM
PRIVATE = cpu.Stream()
Texts = Mapping[str, str]


class Handle:
    """A handle to wait for."""

    def wait(self) -> None: ...


# -- in place, or into another tensor ------------------------------------------------------------------------------


def all_reduce_with_stream(tensor: Tensor, op: ReduceOp = SUM, stream=None): ...


def all_reduce_after(tensor: Tensor, op: ReduceOp = SUM): ...


def outplace(in_tensor: Tensor, out_tensor: Optional[Tensor] = None, op: ReduceOp = SUM) -> Optional[Tensor]:
    return in_tensor.clone() if out_tensor is None else out_tensor


def returning(in_tensor: Tensor, op: ReduceOp = SUM, stream=None) -> Tensor:
    return in_tensor.clone()


def chosen(input_: Tensor, *, inplace: Optional[bool] = None) -> Tensor:
    return input_.clone() if inplace is False else input_


def chosen_in_place(x: Tensor, inplace: bool = True) -> Tensor:
    return x if inplace else x.clone()


def chosen_returning(x: Tensor, inplace: bool = False) -> Tensor:
    return x if inplace else x.clone()


def custom(input: Tensor) -> Optional[Tensor]:
    return input.clone()


def registered(inp: Tensor, *, out: Tensor = None, registered: bool = False):
    return inp.clone() if out is None else out


def torch_all_reduce(tensor, op=SUM, group=None, async_op=False):
    return Handle() if async_op else None


def asynchronous(tensor: Tensor, async_op: bool):
    return Handle() if async_op else None


def two_buffers(sendbuf, recvbuf, op=SUM): ...


def of_list(tensors: List[Tensor], op: ReduceOp = SUM) -> None: ...


# -- gathers, scatters and exchanges -------------------------------------------------------------------------------


def output_first(output_tensor: Tensor, input_tensor: Tensor, sizes: Optional[list[int]] = None): ...


def output_first_with_stream(output_tensor: Tensor, input_tensor: Tensor, stream=None, sizes=None): ...


def input_first(input_: Tensor, output_: Tensor): ...


def unnamed(a, b): ...


def out_by_keyword(input_: Tensor, *, out: Optional[Tensor] = None) -> Tensor:
    return input_.clone() if out is None else out


def out_needed(input_: Tensor, *, out: Tensor) -> Tensor:
    return out


def keywords(*, output: Tensor, input: Tensor) -> None: ...


def along_dim(x: Tensor, dim: int = -1) -> Tensor:
    return x.clone()


def of_coordinator(input_: Tensor, dim: int = -1, output_tensor_list: Optional[List[Tensor]] = None) -> Tensor:
    return input_.clone()


def out_list(input_: Tensor, *, out_list: Optional[List[Tensor]] = None) -> List[Tensor]:
    return [input_.clone()] if out_list is None else out_list


def list_first(tensor_list, tensor, group=None, async_op=False): ...


def from_list(output: Tensor, input_list: List[Tensor]) -> None: ...


def from_list_first(input_list: List[Tensor], *, out: Optional[Tensor] = None) -> Tensor:
    return torch.cat(input_list) if out is None else out


def both_lists(output_tensor_list: list[Tensor], input_tensor_list: list[Tensor], group=None, async_op=False): ...


def to_root(input_: Tensor, dst: int, *, dim: int = 0) -> Optional[Tensor]:
    return input_.clone()


def to_list_of_root(tensor, gather_list=None, dst=0, group=None, async_op=False): ...


def from_root(input_: Tensor, src: int = 0): ...


def reduced_to(tensor: Tensor, root: int, op: ReduceOp = SUM): ...


# A method's name, its function, and the calls of our operations.
SHAPES: list[tuple[str, Callable[..., Any], Texts]] = [
    (
        "all_reduce",
        all_reduce_with_stream,
        {"all_reduce": "(input, op=op)", "return_all_reduce": "(input, op=op)"},
    ),
    ("all_reduce", all_reduce_after, {"all_reduce": "(input, op=op)", "return_all_reduce": "(input, op=op)"}),
    (
        "outplace_all_reduce",
        outplace,
        {"outplace_all_reduce": "(input, out_tensor=out, op=op)", "return_all_reduce": "(input, op=op)"},
    ),
    (
        "all_reduce",
        outplace,
        {
            "return_all_reduce": "(input, op=op)",
            "all_reduce": "(input, input, op=op)",
            "outplace_all_reduce": "(input, out_tensor=out, op=op)",
        },
    ),
    ("all_reduce", returning, {"return_all_reduce": "(input, op=op)", "all_reduce": "(input, op=op)"}),
    (
        "all_reduce",
        chosen,
        {"all_reduce": "(input, inplace=True)", "return_all_reduce": "(input, inplace=False)"},
    ),
    ("all_reduce", chosen_in_place, {"all_reduce": "(input)", "return_all_reduce": "(input, inplace=False)"}),
    ("all_reduce", chosen_returning, {"all_reduce": "(input, inplace=True)", "return_all_reduce": "(input)"}),
    ("custom_all_reduce", custom, {"return_all_reduce": "(input)", "all_reduce": "(input)"}),
    (
        "quick_all_reduce",
        registered,
        {
            "return_all_reduce": "(input)",
            "all_reduce": "(input, out=input)",
            "outplace_all_reduce": "(input, out=out)",
        },
    ),
    ("all_reduce", torch_all_reduce, {"all_reduce": "(input, op=op)", "return_all_reduce": "(input, op=op)"}),
    (
        "all_reduce",
        asynchronous,
        {"all_reduce": "(input, async_op=False)", "return_all_reduce": "(input, async_op=False)"},
    ),
    (
        "all_reduce",
        two_buffers,
        {"all_reduce": "(input, input, op=op)", "outplace_all_reduce": "(input, out, op=op)"},
    ),
    ("all_reduce", of_list, {"all_reduce": "([input], op=op)"}),
    ("all_gather", output_first, {"all_gather": "(output, input, sizes=sizes)"}),
    ("all_gather", output_first_with_stream, {"all_gather": "(output, input, sizes=sizes)"}),
    ("all_gather", input_first, {"all_gather": "(input, output)"}),
    ("all_gather", unnamed, {"all_gather": "(output, input)"}),
    ("all_gather", keywords, {"all_gather": "(output=output, input=input)"}),
    (
        "all_gather_into_tensor",
        out_by_keyword,
        {"all_gather": "(input, out=output)", "return_all_gather": "(input)"},
    ),
    ("all_gather", along_dim, {"return_all_gather": "(input, dim=0)"}),
    (
        "all_gather",
        of_coordinator,
        {
            "all_gather": "(input, dim=0, output_tensor_list=blocks of output)",
            "return_all_gather": "(input, dim=0)",
        },
    ),
    (
        "all_gather",
        out_list,
        {"all_gather": "(input, out_list=blocks of output)", "return_all_gather": "(input)"},
    ),
    ("all_gather", list_first, {"all_gather": "(blocks of output, input)"}),
    ("reduce_scatter_tensor", out_needed, {"reduce_scatter": "(input, out=output)"}),
    ("reduce_scatter", from_list, {"reduce_scatter": "(output, blocks of input)"}),
    (
        "reduce_scatter",
        from_list_first,
        {"reduce_scatter": "(blocks of input, out=output)", "return_reduce_scatter": "(blocks of input)"},
    ),
    ("all_to_all_single", output_first, {"all_to_all": "(output, input)"}),
    ("all_to_all", both_lists, {"all_to_all": "(blocks of output, blocks of input)"}),
    ("gather", to_root, {"return_gather": "(input, dst)"}),
    (
        "gather",
        to_list_of_root,
        {"gather": "(input, blocks of output, dst)", "return_gather": "(input, dst=dst)"},
    ),
    ("broadcast", from_root, {"broadcast": "(input, src)", "return_broadcast": "(input, src)"}),
    ("reduce", reduced_to, {"reduce": "(input, dst, op=op)", "return_reduce": "(input, dst, op=op)"}),
]


@pytest.mark.parametrize(
    ("name", "function", "calls"), SHAPES, ids=[f"{name} {function.__name__}" for name, function, _ in SHAPES]
)
def test_a_method_is_called_as_its_signature_says(
    name: str, function: Callable[..., Any], calls: Texts, group: dist.ProcessGroup
) -> None:
    made = SimpleNamespace(**{name: function})
    adapted = UserCommunicator(lambda group, device: made, group, open_device("cpu", 0))
    assert adapted.describe()["calls"] == {
        operation: f"{function.__name__}{arguments}" for operation, arguments in calls.items()
    }
    adapted.close()


REFUSED: list[tuple[str, Callable[..., Any], str]] = [
    ("all_gather", lambda output, input, layout: None, "(output, input, layout) needs layout: give it a default"),
    ("all_gather", lambda: None, "() has no parameters for (output, input)"),
    ("all_reduce", lambda tensor, residual, norm: None, "(tensor, residual, norm) needs residual, norm: give it a "),
    ("broadcast", lambda x, scale=1, src=0, /: None, "has parameters that can be passed neither by name nor in order"),
    ("broadcast", lambda tensor, stream=None: None, "(tensor, stream=None) has no parameters for (tensor, src)"),
    ("gather", lambda input_, rank_in_group, dst=0, dim=-1: None, "needs rank_in_group: give it a default"),
    ("broadcast", lambda size, dtype, src=None: None, "(size, dtype, src=None) needs size, dtype: give it a default"),
    ("all_to_all", lambda output, input, stream: None, "(output, input, stream) needs stream: give it a default"),
]


@pytest.mark.parametrize(("name", "function", "says"), REFUSED)
def test_a_method_with_another_signature_is_refused_with_the_reason(
    name: str, function: Callable[..., Any], says: str, group: dist.ProcessGroup
) -> None:
    other: dict[str, Any] = {"all_gather": unnamed} if name == "all_reduce" else {"all_reduce": all_reduce_after}
    made = SimpleNamespace(**{name: function}, **other)
    adapted = UserCommunicator(lambda group, device: made, group, open_device("cpu", 0))
    assert [collective for collective, _ in adapted.supported if collective == name] == []
    (reason,) = cast(Texts, adapted.describe()["misfits"]).values()
    assert says in reason
    adapted.close()


class WithPrivateStream:
    """An object whose calls without a stream run on its private stream."""

    def __init__(self, *made_with: object) -> None:
        self.stream = PRIVATE

    def all_reduce(self, tensor: Tensor, stream: Any = None) -> None: ...

    def all_gather(self, output: Tensor, input: Tensor) -> None: ...


def test_a_method_that_takes_no_stream_is_refused_if_others_get_the_current_one(group: dist.ProcessGroup) -> None:
    adapted = UserCommunicator(WithPrivateStream, group, open_device("cpu", 0), order=Order.CURRENT)
    described = adapted.describe()
    assert described["calls"] == {"all_reduce": "all_reduce(input, stream=the current stream)"}
    assert described["misfits"] == {
        "all_gather": "WithPrivateStream.all_gather(output, input) takes no stream, and without one it would run on "
        "the object's private stream"
    }
    adapted.close()


class GathersOnly:
    """An object that gathers, and has no other operation."""

    def __init__(self, *made_with: object) -> None: ...

    def all_gather(self, input: Tensor, *, out: Tensor | None = None) -> Tensor: ...  # type: ignore[empty-body]


def test_an_object_without_all_reduce_is_described_by_what_it_has(group: dist.ProcessGroup) -> None:
    adapted = UserCommunicator(GathersOnly, group, open_device("cpu", 0))
    assert "only all_gather, calls" in adapted.description
    lacking = cast(Texts, adapted.describe()["lacking"])
    assert "all_gather" not in lacking
    assert lacking["reduce_scatter"] == "it has no method reduce_scatter or reduce_scatter_tensor"
    assert lacking["send_recv"] == "it has no method send_recv, or send and recv with group_start and group_end"
    adapted.close()
