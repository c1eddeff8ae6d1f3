"""The meaning of each parameter of a user's method, by its name, its place and its annotation."""

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from inspect import Parameter
from typing import Any

from nccl_bench.user_arms import signatures


class Role(StrEnum):
    """The meaning of a parameter."""

    INPUT = "input"  # this rank's input
    OUTPUT = "output"  # this rank's output
    SOURCE = "src"  # the rank that sends
    DESTINATION = "dst"  # the rank that receives
    OP = "op"  # the reduction
    SIZES = "sizes"  # the rows of each rank's block
    STREAM = "stream"  # the stream to work on
    IN_PLACE = "inplace"  # whether the output overwrites the input
    DIMENSION = "dim"  # the dimension along which blocks are joined or split
    ASYNCHRONOUS = "async_op"  # whether the call returns a handle to wait for


_NAMES: Mapping[str, Role] = {
    "op": Role.OP,
    "redop": Role.OP,
    "reduce_op": Role.OP,
    "sizes": Role.SIZES,
    "stream": Role.STREAM,
    "inplace": Role.IN_PLACE,
    "in_place": Role.IN_PLACE,
    "dim": Role.DIMENSION,
    "axis": Role.DIMENSION,
    "async_op": Role.ASYNCHRONOUS,
}
_ENDINGS = "_?(tensor|buf|buff|buffer|list|tensor_list)?s?_?"
_TENSORS = {
    Role.INPUT: re.compile(f"(in|inp|input|send|src|source){_ENDINGS}"),
    Role.OUTPUT: re.compile(f"(out|output|recv|receive|gather|gathered|result|dst|dest){_ENDINGS}"),
}
_NO_TENSOR = re.compile("rank|peer|group|size|shape|count|dtype|name")
# In an operation with a root, these names mean ranks, not tensors.
_RANKS = {
    Role.SOURCE: re.compile("(src|source|root)(_rank)?"),
    Role.DESTINATION: re.compile("(dst|dest|root)(_rank)?"),
}
_LISTS = re.compile(r"\b(list|sequence|iterable|tuple)\s*\[[^\[\]]*\]", re.IGNORECASE)


def roles_of(method: Callable[..., Any], placed: Sequence[Role]) -> dict[Role, Parameter]:
    """Return the parameter of ``method`` for each role.

    ``placed`` are the roles of the arguments that an operation always has, in our order. If no name shows the parameter
    of such a role, the next parameter without a role gets it. Parameters without a default come first.
    """
    parameters = signatures.named_parameters(method)
    # Two parameters can have similar names, such as a tensor and a list. The parameter without a default comes first.
    in_order = sorted(parameters, key=lambda each: each.default is not each.empty)
    roles: dict[Role, Parameter] = {}
    for parameter in in_order:
        role = _role_by_name(parameter.name, placed)
        # The input of a call is never optional, so an optional parameter with such a name is something else.
        if role is not None and (role is not Role.INPUT or parameter.default is parameter.empty):
            roles.setdefault(role, parameter)
    for role in [each for each in placed if each not in roles]:
        fitting = (each for each in in_order if each not in roles.values() and _can_be(role, each))
        if (first := next(fitting, None)) is not None:
            roles[role] = first
    return roles


def _can_be(role: Role, parameter: Parameter) -> bool:
    """Return whether a parameter whose name shows no role can have ``role``."""
    is_tensor = role in _TENSORS
    return parameter.kind in signatures.POSITIONAL and not (is_tensor and _NO_TENSOR.search(parameter.name))


def _role_by_name(name: str, placed: Sequence[Role]) -> Role | None:
    if name in _NAMES:
        return _NAMES[name]
    patterns = {role: pattern for role, pattern in _RANKS.items() if role in placed} | _TENSORS
    return next((role for role, pattern in patterns.items() if pattern.fullmatch(name)), None)


def is_list(parameter: Parameter) -> bool:
    """Return whether ``parameter`` takes a list of tensors, and not a tensor."""
    if parameter.annotation is not parameter.empty:
        return annotates_list(parameter.annotation)
    return parameter.name.rstrip("_").endswith(("list", "tensors", "inputs", "outputs"))


def annotates_list(annotation: Any) -> bool:
    """Return whether ``annotation`` allows a list of tensors and no single tensor."""
    text = signatures.annotation_text(annotation)
    without_lists = _LISTS.sub("", text)
    return "Tensor" in text and "Tensor" not in without_lists
