"""Checks that refuse a call before it reaches a transport. Each error message says what to change."""

from collections.abc import Collection, Sequence
from typing import NoReturn

import torch
from torch import Tensor

from nccl_bench.errors import InvalidArgumentError


def refuse_tensor(tensor: Tensor, device: torch.device, dtypes: Collection[torch.dtype]) -> NoReturn:
    """Raise ``InvalidArgumentError`` for a tensor that no operation accepts. The message names one reason."""
    if tensor.dtype not in dtypes:
        raise InvalidArgumentError(f"the tensor has dtype {tensor.dtype}: allowed are {', '.join(map(str, dtypes))}")
    if not tensor.is_contiguous():
        raise InvalidArgumentError(
            f"the tensor of shape {tuple(tensor.shape)} and strides {tensor.stride()} is not contiguous: "
            "pass tensor.contiguous()"
        )
    raise InvalidArgumentError(
        f"the tensor is on {tensor.device}, and the communicator is on {device}: move the tensor there"
    )


def refuse_pair(tensor: Tensor, other: Tensor, count: int) -> NoReturn:
    """Raise ``InvalidArgumentError`` for two tensors whose dtypes differ or whose counts do not match."""
    if tensor.dtype is not other.dtype:
        raise InvalidArgumentError(f"the tensors have dtypes {tensor.dtype} and {other.dtype}: they must be the same")
    raise InvalidArgumentError(
        f"the tensor of shape {tuple(tensor.shape)} has {tensor.numel()} elements and needs {count}, "
        f"because the other tensor has {other.numel()}"
    )


def refuse_division(tensor: Tensor, world_size: int) -> NoReturn:
    """Raise ``InvalidArgumentError`` for a tensor that does not divide into one equal block for each rank."""
    raise InvalidArgumentError(
        f"the tensor has {tensor.numel()} elements: the number must be a multiple of the {world_size} ranks"
    )


def check_sizes(sizes: Sequence[int], *, whole: Tensor, part: Tensor, rank: int, world_size: int) -> None:
    """Raise ``InvalidArgumentError`` unless ``whole`` and this rank's ``part`` have the rows that ``sizes`` gives."""
    if len(sizes) != world_size:
        raise InvalidArgumentError(f"sizes has {len(sizes)} entries for {world_size} ranks: give one for each rank")
    if min(sizes) < 0:
        raise InvalidArgumentError(f"sizes is {list(sizes)}: entries must not be negative")
    if whole.dim() == 0 or part.dim() == 0 or whole.shape[1:] != part.shape[1:]:
        raise InvalidArgumentError(
            f"the tensors have shapes {tuple(whole.shape)} and {tuple(part.shape)}: with sizes they must agree in "
            "all dimensions except the first"
        )
    if sum(sizes) != whole.shape[0]:
        raise InvalidArgumentError(
            f"sizes add up to {sum(sizes)}, and the whole tensor has {whole.shape[0]} rows (shape {tuple(whole.shape)})"
        )
    if part.shape[0] != sizes[rank]:
        raise InvalidArgumentError(
            f"sizes[{rank}] is {sizes[rank]}, and the tensor of rank {rank} has shape {tuple(part.shape)}"
        )
