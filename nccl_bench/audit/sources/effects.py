"""The tensors that an operator reads and writes, from its schema."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Operators that use only the sizes of their tensors.
_FACTORY = re.compile(r"aten::(new_.*|.*_like)$")
# Operators that give out memory and write nothing into it.
_UNWRITTEN = re.compile(r"aten::(new_)?empty(_.*)?$")
# Operators that return a view, although their schemas promise a new tensor; and operators that run nothing.
_NO_KERNEL = frozenset(
    {
        "aten::_unsafe_view",
        "aten::unsafe_chunk",
        "aten::unsafe_split",
        "aten::unsafe_split_with_sizes",
        "aten::is_same_size",
        "aten::resize_",
        "aten::set_",
        "aten::_fused_sdp_choice",
        "aten::_has_compatible_shallow_copy_type",
        "_c10d_functional::_wrap_tensor_autograd",
    }
)
# Arguments that an operator writes, although its schema does not say so.
_STATISTICS = ("running_mean", "running_var")
_UNANNOTATED: Mapping[str, tuple[str, ...]] = {
    "aten::native_batch_norm": _STATISTICS,
    "aten::cudnn_batch_norm": _STATISTICS,
    "aten::miopen_batch_norm": _STATISTICS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """The arguments that a call of an operator or a kernel reads and writes."""

    reads: frozenset[str] | None = None  # the names of arguments that are read; None for all that are not in `writes`
    writes: frozenset[str] = frozenset()  # the names of arguments that are written


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator and its effects. Arguments have a position and a name, because a call can give them in both ways."""

    name: str  # with its namespace, for example "aten::mul"
    reads: tuple[tuple[int, str], ...] | None  # the arguments whose bytes are read; None for all arguments
    writes: tuple[tuple[int, str], ...]  # the arguments whose bytes are written
    returns_new: bool  # True if the call returns tensors that are no views of its arguments
    writes_new: bool  # True if the call writes the tensors that it returns
    does_anything: bool  # False if the call reads nothing, writes nothing and returns nothing new, as for a view

    def read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
        """Yield the tensors that a call reads."""
        if self.reads is None:
            return tensors_in([*args, *kwargs.values()])
        return _chosen(self.reads, args, kwargs)

    def written(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
        """Yield the tensors among the arguments that a call writes."""
        return _chosen(self.writes, args, kwargs)


_operators: dict[Any, Operator] = {}
_declared: dict[str, Effects] = {}


def declare_effects(name: str, *, reads: Iterable[str] | None = None, writes: Iterable[str] = ()) -> None:
    """Say which arguments an operator ("vllm::all_gather") or a Triton kernel ("my_kernel") reads and writes.

    Without ``reads``, all arguments that are not in ``writes`` count as read. Without a declaration, the schema of an
    operator decides, and a Triton kernel reads and writes all its tensors.
    """
    _declared[name] = Effects(reads=None if reads is None else frozenset(reads), writes=frozenset(writes))
    _operators.clear()


def declared_effects(name: str) -> Effects | None:
    """Return what the user declared about ``name``; None if there is no declaration."""
    return _declared.get(name)


def operator_of(overload: Any) -> Operator:
    """Return the effects of an overload (``torch._ops.OpOverload``). Its schema is read only once."""
    operator = _operators.get(overload)
    if operator is None:
        schema = getattr(overload, "_schema", None)
        operator = _operators[overload] = _higher_order(str(overload)) if schema is None else _read_schema(schema)
    return operator


def _higher_order(name: str) -> Operator:
    """Return the effects of an operator without a schema: it reads all arguments and writes its results."""
    return Operator(name=name, reads=None, writes=(), returns_new=True, writes_new=True, does_anything=True)


def _read_schema(schema: Any) -> Operator:
    name = schema.name
    if name in _NO_KERNEL:
        return Operator(name=name, reads=(), writes=(), returns_new=False, writes_new=False, does_anything=False)
    declared, reads, writes = _declared.get(name), [], []
    for index, argument in enumerate(schema.arguments):
        if "Tensor" not in str(argument.type):
            continue
        alias = argument.alias_info
        is_written = (alias is not None and alias.is_write) or argument.name in _UNANNOTATED.get(name, ())
        is_read = not is_written and alias is None and not _FACTORY.match(name)
        if declared is not None:
            is_written = argument.name in declared.writes
            is_read = not is_written if declared.reads is None else argument.name in declared.reads
        if is_written:
            writes.append((index, argument.name))
        if is_read:
            reads.append((index, argument.name))
    returns_new = any(value.alias_info is None and "Tensor" in str(value.type) for value in schema.returns)
    return Operator(
        name=name,
        reads=tuple(reads),
        writes=tuple(writes),
        returns_new=returns_new,
        writes_new=returns_new and not _UNWRITTEN.match(name),
        does_anything=bool(reads or writes or returns_new),
    )


def _chosen(chosen: tuple[tuple[int, str], ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    for index, name in chosen:
        value = args[index] if index < len(args) else kwargs.get(name)
        if isinstance(value, Tensor):
            yield value
        elif value is not None:
            yield from tensors_in(value)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value of an argument: a tensor, or lists, tuples and dicts of tensors."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors_in(each)
