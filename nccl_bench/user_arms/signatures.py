"""What can be told about a user's functions by looking at their signatures, once and never at a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Any

import torch.distributed as dist

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.config.user_arms import Adapter

# Built-in functions may have no signature to read; then all that is known is that they take arguments.
_UNREADABLE = Signature([Parameter("args", Parameter.VAR_POSITIONAL)])
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
# What we call it, by what users do.
_OPTIONS = {
    "op": "op",
    "sizes": "sizes",
    "stream": "stream",
    "out": "out",
    "output": "out",
    "out_tensor": "out",
    "output_tensor": "out",
}


def signature_of(function: Callable[..., Any]) -> Signature:
    """The signature of a function, bound method or class; that of ``(*args)`` where none can be read."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return _UNREADABLE


def positional(function: Callable[..., Any]) -> list[Parameter]:
    """The parameters that can be passed by position, but for ``*args``."""
    return [one for one in signature_of(function).parameters.values() if one.kind in _POSITIONAL]


def takes(function: Callable[..., Any], *arguments: object, **keywords: object) -> bool:
    """Whether ``function`` can be called like this."""
    try:
        signature_of(function).bind(*arguments, **keywords)
    except TypeError:
        return False
    return True


def options(function: Callable[..., Any], leading: int) -> Mapping[str, str]:
    """What follows the first ``leading`` parameters and is known to us: our name and the user's, in their order."""
    parameters = list(signature_of(function).parameters.values())[leading:]
    return {_OPTIONS[one.name]: one.name for one in parameters if one.name in _OPTIONS and one.kind in _BY_NAME}


def is_operation(function: Callable[..., Any]) -> bool:
    """Whether a function takes one tensor: it needs one argument, and that is not called a group."""
    needed = [one for one in positional(function) if one.default is Parameter.empty]
    return len(needed) == 1 and "group" not in needed[0].name and takes(function, None)


def is_unreadable(function: Callable[..., Any]) -> bool:
    """Whether a signature says no more than ``(*args, **kwargs)``, as torch's custom operators' does."""
    kinds = {one.kind for one in signature_of(function).parameters.values()}
    return Parameter.VAR_POSITIONAL in kinds and kinds <= {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}


def writes_first(function: Callable[..., Any]) -> bool:
    """Whether the first two parameters can be an output and an input, in this order: both needed, and by name."""
    first = positional(function)[:2]
    needed = all(one.default is Parameter.empty for one in first)
    return needed and not (first and first[0].name.startswith(("in", "send", "source", "src")))


def returns_nothing(function: Callable[..., Any]) -> bool:
    """Whether ``function`` is annotated to return ``None``."""
    return signature_of(function).return_annotation in (None, "None")


def vocabulary(function: Callable[..., Any]) -> Adapter | None:
    """Whose reductions ``op`` takes, ours (``protocol``) or torch's (``pynccl``), by its default or its annotation."""
    op = signature_of(function).parameters.get("op")
    if op is None:
        return None
    written = op.annotation if isinstance(op.annotation, str) else getattr(op.annotation, "__name__", "")
    if op.default in tuple(RedOp) or written.rpartition(".")[2] == "RedOp":
        return Adapter.PROTOCOL
    if isinstance(op.default, dist.ReduceOp) or written.rpartition(".")[2] == "ReduceOp":
        return Adapter.PYNCCL
    return None


def name_of(thing: object) -> str:
    """What a user calls it: the name of a class or function, or of an object's class."""
    return str(getattr(thing, "__qualname__", type(thing).__qualname__))


def written(function: Callable[..., Any]) -> str:
    """A function as its definition begins, without annotations."""
    signature = signature_of(function)
    bare = [one.replace(annotation=Parameter.empty) for one in signature.parameters.values()]
    return f"{name_of(function)}{Signature(bare)}"
