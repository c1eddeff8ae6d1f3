"""The bytes that a tensor uses."""

from __future__ import annotations

import functools
from math import prod

import torch
from torch import Tensor

from nccl_bench.audit.order.places import ByteRange

# A tensor with more separate blocks than this counts as one range, from its first to its last byte. Then two tensors
# that share a storage and lie between each other's blocks seem to overlap.
MOST_BLOCKS = 256
_KEPT = 4096  # the number of tensors whose ranges are kept


def byte_ranges(tensor: Tensor) -> tuple[ByteRange, ...]:
    """Return the bytes of ``tensor``: exact for at most ``MOST_BLOCKS`` blocks, otherwise the span of all blocks.

    A tensor without memory of its own, for example a sparse tensor, uses no bytes.
    """
    if tensor.layout is not torch.strided:
        return ()
    address = tensor.data_ptr()
    if not address:  # an empty tensor, or one on the device "meta"
        return ()
    if tensor.is_contiguous():
        return _contiguous(address, tensor.nbytes)
    return _strided(address, tensor.element_size(), tensor.shape, tensor.stride())


# Programs use the same tensors in each step, and a lookup costs less than new records.


@functools.lru_cache(_KEPT)
def _contiguous(address: int, length: int) -> tuple[ByteRange, ...]:
    return (ByteRange(address=address, length=length),)


@functools.lru_cache(_KEPT)
def _strided(address: int, item_bytes: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[ByteRange, ...]:
    """Return the ranges of a tensor with gaps. Dimensions without a gap grow the block; the others repeat it."""
    block = span = item_bytes
    repeated: list[tuple[int, int]] = []
    for stride, size in sorted((stride * item_bytes, size) for stride, size in zip(strides, shape, strict=True)):
        if size == 1 or stride == 0:
            continue
        span += (size - 1) * stride
        if stride <= block and not repeated:
            block += (size - 1) * stride
        else:
            repeated.append((stride, size))
    if prod(size for _, size in repeated) > MOST_BLOCKS:
        return (ByteRange(address=address, length=span),)
    starts = [address]
    for stride, size in reversed(repeated):
        starts = [start + index * stride for start in starts for index in range(size)]
    return tuple(ByteRange(address=start, length=block) for start in starts)
