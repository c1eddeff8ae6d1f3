"""Results of users' calls: an output, a handle to wait for, both, or nothing; and the placement that a result shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nccl_bench.catalog.collectives import Placement
from nccl_bench.errors import SetupError
from nccl_bench.user_arms import signatures
from nccl_bench.user_arms.tracebacks import definition_line


def unpack(result: object) -> tuple[object, list[Any]]:
    """Return (1) the output in ``result``, or ``None``, and (2) the handles in ``result``, which the caller waits for.

    An output is a tensor, or a list of tensors. A tuple can have an output and handles, and also ``None``.
    """
    if _is_handle(result):
        return None, [result]
    if not isinstance(result, list | tuple):
        return result, []
    handles = [each for each in result if _is_handle(each)]
    outputs = [each for each in result if each is not None and not _is_handle(each)]
    return (outputs[0] if len(outputs) == 1 else outputs or None), handles


@dataclass(frozen=True, slots=True, kw_only=True)
class HandleForm:
    """The form of a result with one handle: the handle alone, or a tuple of an output and the handle."""

    kind: type  # the type of the result
    handle_kind: type  # the type of the handle
    in_tuple: bool  # True if the result is a tuple
    place: int  # the place of the handle in the tuple; 0 without a tuple

    @classmethod
    def of(cls, result: object) -> HandleForm | None:
        """Return the form of ``result``; ``None`` unless it has one handle, alone or in a pair."""
        _, handles = unpack(result)
        if len(handles) != 1 or (isinstance(result, list | tuple) and len(result) != 2):
            return None
        in_tuple = isinstance(result, list | tuple)
        place = int(in_tuple and not _is_handle(result[0]))  # type: ignore[index]  # a tuple has two parts here
        return cls(kind=type(result), handle_kind=type(handles[0]), in_tuple=in_tuple, place=place)


def waiting(call: Callable[..., Any], form: HandleForm | None = None) -> Callable[..., Any]:
    """Return a function that makes ``call``, waits for each handle in the result, and returns the output.

    The function is fastest for a result of ``form``, because its time counts as time of the call.
    """
    # `Any`, so that mypy does not narrow the type of a result by the tests below.
    kind: Any = None if form is None else form.kind
    handle_kind: Any = None if form is None else form.handle_kind
    place = 0 if form is None else form.place

    def waited_for_any(result: object) -> object:
        output, handles = unpack(result)
        for handle in handles:
            handle.wait()
        return output

    def waited(*arguments: Any, **options: Any) -> object:
        result = call(*arguments, **options)
        if type(result) is not kind:
            return waited_for_any(result)
        result.wait()
        return None

    def waited_in_tuple(*arguments: Any, **options: Any) -> object:
        result = call(*arguments, **options)
        if type(result) is not kind or len(result) != 2 or type(result[place]) is not handle_kind:
            return waited_for_any(result)
        result[place].wait()
        return result[1 - place]

    in_tuple = form is not None and form.in_tuple
    returned = waited_in_tuple if in_tuple else waited
    returned.__qualname__ = signatures.name_of(call)
    setattr(returned, "__wrapped__", call)  # noqa: B010 - mypy's objection
    return returned


def _is_handle(value: object) -> bool:
    return not isinstance(value, Tensor) and callable(getattr(value, "wait", None))


def placement_of(call: Callable[..., Any], output: object, input: Tensor, like: Tensor) -> Placement | None:
    """Return the placement of a call that got only ``input`` and returned ``output``; ``None`` if it returned nothing.

    A returned output is another tensor, or a list of tensors, with as many elements as ``like`` and the same data type
    and device. Raises ``SetupError`` for any other output.
    """
    if output is None:
        return None
    if isinstance(output, Tensor) and output.data_ptr() == input.data_ptr():
        return Placement.IN_PLACE
    refuse_unlike(call, output, input, like)
    return Placement.RETURNED


def refuse_unlike(call: Callable[..., Any], output: object, input: Tensor, like: Tensor) -> None:
    """Raise ``SetupError`` unless ``output`` has as many elements as ``like``, its data type and its device.

    The shape may differ: the blocks of a gather can be rows, or tensors of a list.
    """
    parts = output if isinstance(output, list | tuple) else [output]
    tensors = [part for part in parts if isinstance(part, Tensor)]
    fitting = [part for part in tensors if (part.dtype, part.device) == (like.dtype, like.device)]
    if len(fitting) == len(parts) and sum(part.numel() for part in fitting) == like.numel():
        return
    got = type(output).__name__
    if tensors:
        part = next((each for each in tensors if not any(each is other for other in fitting)), tensors[0])
        got = f"{_described(part)}{f' on {part.device}' if part.device != like.device else ''}"
        got = f"list of {len(parts)}, among them a {got}" if isinstance(output, list | tuple) else got
    line = definition_line(call)
    at = f" ({line})" if line else ""
    # A call whose output has the size of its input can also work in place.
    allowed = f"a new {_described(like)}"
    if like.shape == input.shape:
        allowed = "None, the input, or a new tensor like the input"
    raise SetupError(f"{signatures.name_of(call)}{at} of a {_described(input)} returned a {got}: return {allowed}")


def _described(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)}"
