"""Facts about a user's functions, read from their signatures once and never during a call."""

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Any

import torch.distributed as dist

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.config.user_arms import Adapter

# The signature to use if a function's signature cannot be read, as for some built-in functions.
_UNREADABLE = Signature([Parameter("args", Parameter.VAR_POSITIONAL)])
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
# A user's name of an option -> our name of the option.
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
    """Return the signature of a function, bound method or class, or ``(*args)`` if it cannot be read."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return _UNREADABLE


def positional(function: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters that can be passed by position, without ``*args``."""
    return [parameter for parameter in signature_of(function).parameters.values() if parameter.kind in _POSITIONAL]


def takes(function: Callable[..., Any], *arguments: object, **keywords: object) -> bool:
    """Return whether ``function`` can be called with these arguments."""
    try:
        signature_of(function).bind(*arguments, **keywords)
    except TypeError:
        return False
    return True


def options(function: Callable[..., Any], leading: int) -> Mapping[str, str]:
    """Return the known options after the first ``leading`` parameters, in order: our name -> the user's name."""
    parameters = list(signature_of(function).parameters.values())[leading:]
    known = (parameter.name for parameter in parameters if parameter.name in _OPTIONS and parameter.kind in _BY_NAME)
    return {_OPTIONS[name]: name for name in known}


def is_operation(function: Callable[..., Any]) -> bool:
    """Return whether a function takes one tensor: only one parameter has no default, and "group" is not in its name."""
    needed = [parameter for parameter in positional(function) if parameter.default is Parameter.empty]
    return len(needed) == 1 and "group" not in needed[0].name and takes(function, None)


def is_unreadable(function: Callable[..., Any]) -> bool:
    """Return whether a signature is only ``(*args, **kwargs)``, as for torch's custom operators."""
    kinds = {parameter.kind for parameter in signature_of(function).parameters.values()}
    return Parameter.VAR_POSITIONAL in kinds and kinds <= {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}


def writes_first(function: Callable[..., Any]) -> bool:
    """Return whether the first two parameters can be an output and an input, by their names and without defaults."""
    first = positional(function)[:2]
    needed = all(parameter.default is Parameter.empty for parameter in first)
    return needed and not (first and first[0].name.startswith(("in", "send", "source", "src")))


def returns_nothing(function: Callable[..., Any]) -> bool:
    """Return whether ``function`` is annotated to return ``None``."""
    return signature_of(function).return_annotation in (None, "None")


def vocabulary(function: Callable[..., Any]) -> Adapter | None:
    """Return the adapter that the default or annotation of ``op`` belongs to; ``None`` if neither shows an adapter.

    ``protocol`` stands for our ``RedOp``, ``pynccl`` for torch's ``ReduceOp``.
    """
    op = signature_of(function).parameters.get("op")
    if op is None:
        return None
    annotation = op.annotation if isinstance(op.annotation, str) else getattr(op.annotation, "__name__", "")
    if op.default in tuple(RedOp) or annotation.rpartition(".")[2] == "RedOp":
        return Adapter.PROTOCOL
    if isinstance(op.default, dist.ReduceOp) or annotation.rpartition(".")[2] == "ReduceOp":
        return Adapter.PYNCCL
    return None


def name_of(value: object) -> str:
    """Return the name of a class or function; for any other object, the name of its class."""
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def signature_text(function: Callable[..., Any]) -> str:
    """Return a function's name and parameters, without annotations."""
    signature = signature_of(function)
    bare = [parameter.replace(annotation=Parameter.empty) for parameter in signature.parameters.values()]
    return f"{name_of(function)}{Signature(bare)}"
