"""Facts about a user's functions, read from their signatures once and never during a call."""

import inspect
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

import torch.distributed as dist

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.config.user_arms import Adapter

# The signature to use if a function's signature cannot be read, as for some built-in functions.
_UNREADABLE = Signature([Parameter("args", Parameter.VAR_POSITIONAL)])
POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def signature_of(function: Callable[..., Any]) -> Signature:
    """Return the signature of a function, bound method or class, or ``(*args)`` if it cannot be read."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return _UNREADABLE


def positional(function: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters that can be passed by position, without ``*args``."""
    return [parameter for parameter in signature_of(function).parameters.values() if parameter.kind in POSITIONAL]


def named_parameters(function: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters without ``*args`` and ``**kwargs``."""
    parameters = signature_of(function).parameters.values()
    return [parameter for parameter in parameters if parameter.kind not in _VARIABLE]


def takes(function: Callable[..., Any], *arguments: object, **keywords: object) -> bool:
    """Return whether ``function`` can be called with these arguments."""
    try:
        signature_of(function).bind(*arguments, **keywords)
    except TypeError:
        return False
    return True


def is_operation(function: Callable[..., Any]) -> bool:
    """Return whether a function takes one tensor: only one parameter has no default, and "group" is not in its name."""
    needed = [parameter for parameter in positional(function) if parameter.default is Parameter.empty]
    return len(needed) == 1 and "group" not in needed[0].name and takes(function, None)


def takes_any_number(function: Callable[..., Any]) -> bool:
    """Return whether ``function`` takes any number of arguments by position."""
    return any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in signature_of(function).parameters.values())


def is_unreadable(function: Callable[..., Any]) -> bool:
    """Return whether a signature is only ``(*args, **kwargs)``, as for torch's custom operators."""
    kinds = {parameter.kind for parameter in signature_of(function).parameters.values()}
    return Parameter.VAR_POSITIONAL in kinds and kinds <= {*_VARIABLE}


def returns_tensor(function: Callable[..., Any]) -> bool | None:
    """Return True if the annotation of the result has tensors, False if it is ``None``; else ``None``.

    An annotation that allows a tensor or ``None`` also gives True.
    """
    annotation = signature_of(function).return_annotation
    if annotation in (None, "None"):
        return False
    return True if annotation is not Signature.empty and "Tensor" in annotation_text(annotation) else None


def annotation_text(annotation: Any) -> str:
    """Return ``annotation`` as in the source code."""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


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
