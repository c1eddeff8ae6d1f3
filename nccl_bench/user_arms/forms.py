"""The operations of our protocol, the parameters of each, and the names that users' methods can have for them."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.communicators.protocol import RETURNING, Communicator

Method = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The parameters of an operation."""

    leading: tuple[str, ...]  # parameters without a default, in their order
    options: tuple[str, ...] = ()  # parameters with a default, in their order, after `leading`
    in_place: bool | None = None  # whether the output overwrites the input; None if it cannot, or if the caller decides
    blocks: frozenset[str] = frozenset()  # the tensors of `leading` that have one block for each rank
    only_root_has_blocks: bool = False  # True if only the root's output has these blocks


def _form(name: str, method: Method) -> Form:
    _, *parameters = inspect.signature(method).parameters.values()
    return Form(
        leading=tuple(each.name for each in parameters if each.default is each.empty),
        options=tuple(each.name for each in parameters if each.default is not each.empty),
        in_place={"all_reduce": True, "outplace_all_reduce": False}.get(name),
        blocks=_blocks_of(name),
        only_root_has_blocks=name in COLLECTIVES and COLLECTIVES[name].result_at_root,
    )


def _blocks_of(name: str) -> frozenset[str]:
    row = COLLECTIVES.get(name)
    blocks = {"output": row.receives_all_blocks, "input": row.sends_all_blocks} if row else {}
    return frozenset(tensor for tensor, has_blocks in blocks.items() if has_blocks)


# All methods of the protocol except those that change the state of the communicator.
PROTOCOL_OPERATIONS: Mapping[str, Form] = {
    name: _form(name, method)
    for name, method in vars(Communicator).items()
    if inspect.isfunction(method) and not name.startswith("_") and name not in ("change_state", "close")
}
# A user's `send` and `recv` together can be a `send_recv`.
HALVES: Mapping[str, Form] = {
    "send": Form(leading=("tensor", "dst")),
    "recv": Form(leading=("tensor", "src")),
}
# The operations that return their output as a new tensor (`ArmCommunicator.returning`).
RETURNING_OPERATIONS: Mapping[str, Form] = {
    f"return_{name}": Form(
        leading=tuple(parameter for parameter in PROTOCOL_OPERATIONS[name].leading if parameter != "output"),
        options=tuple(option for option in PROTOCOL_OPERATIONS[name].options if option != "out"),
        in_place=False if name == "all_reduce" else None,
        blocks=_blocks_of(name),
    )
    for name in RETURNING
}
FORMS: Mapping[str, Form] = {**PROTOCOL_OPERATIONS, **HALVES, **RETURNING_OPERATIONS}

# Operation -> the names of methods that can do it, the preferred one first. Other operations have one name, their own.
# A custom all-reduce of an engine has `custom_all_reduce` for callers and an `all_reduce` for itself.
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "all_reduce": ("custom_all_reduce", "all_reduce", "quick_all_reduce", "pcie_ipc_all_reduce"),
    "all_gather": ("all_gather", "all_gather_into_tensor"),
    "reduce_scatter": ("reduce_scatter", "reduce_scatter_tensor"),
    "all_to_all": ("all_to_all", "all_to_all_single"),
}
METHOD_NAMES: Mapping[str, tuple[str, ...]] = {
    name: _OTHER_NAMES.get(name, (name,)) for name in (*PROTOCOL_OPERATIONS, *HALVES)
}


def collective_of(name: str) -> str:
    """Return the collective of the operation ``name``."""
    return name.removeprefix("outplace_").removeprefix("return_")
