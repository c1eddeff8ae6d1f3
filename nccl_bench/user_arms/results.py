"""What a user's call returned: its placement, or the reason why it cannot be the result of a collective."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from nccl_bench.catalog.collectives import Placement
from nccl_bench.errors import SetupError
from nccl_bench.user_arms import signatures
from nccl_bench.user_arms.tracebacks import definition_line


def placement_of(call: Callable[..., Any], result: object, input: Tensor, like: Tensor) -> Placement:
    """Return the placement of a call that got only ``input`` and returned ``result``.

    A result in place is ``None`` or ``input``. A returned result is another tensor with the shape, the data type and
    the device of ``like``. Raises ``SetupError`` if ``result`` is neither.
    """
    if result is None or (isinstance(result, Tensor) and result.data_ptr() == input.data_ptr()):
        return Placement.IN_PLACE
    refuse_unlike(call, result, input, like)
    return Placement.RETURNED


def refuse_unlike(call: Callable[..., Any], result: object, input: Tensor, like: Tensor) -> None:
    """Raise ``SetupError`` unless ``result`` is a tensor with the shape, the data type and the device of ``like``."""
    got = type(result).__name__
    if isinstance(result, Tensor):
        if (result.shape, result.dtype, result.device) == (like.shape, like.dtype, like.device):
            return
        got = f"{_described(result)}{f' on {result.device}' if result.device != like.device else ''}"
    line = definition_line(call)
    at = f" ({line})" if line else ""
    # A call whose output has the size of its input can also work in place.
    allowed = f"a new {_described(like)}"
    if like.shape == input.shape:
        allowed = "None, the input, or a new tensor like the input"
    raise SetupError(f"{signatures.name_of(call)}{at} of a {_described(input)} returned a {got}: return {allowed}")


def _described(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)}"
