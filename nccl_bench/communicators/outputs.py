"""Finds the tensors in the result of a call."""

import torch
from torch import Tensor


def tensors_of(output: object) -> list[Tensor]:
    """Return the tensors in ``output``, a tensor or a list of tensors, as 1-D tensors."""
    parts = output if isinstance(output, list | tuple) else [output]
    return [part.reshape(-1) for part in parts if isinstance(part, Tensor)]


def concatenated(output: object) -> Tensor | None:
    """Return all elements of ``output`` as one 1-D tensor; ``None`` if there are no tensors in ``output``."""
    tensors = tensors_of(output)
    return torch.cat(tensors) if len(tensors) > 1 else next(iter(tensors), None)
