"""The bytes that a tensor uses, and whether two accesses have bytes in common."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from nccl_bench.audit.order.places import ByteRange

# A tensor with more separate blocks than this is given to the order as one `Span`, because each block costs time. Two
# tensors that lie between each other's blocks then seem to overlap. `Touched` compares the blocks themselves.
MOST_BLOCKS = 4
_MOST_COMPARED = 1 << 20  # with more blocks than this, `_have_common_bytes` assumes common bytes
_KEPT = 4096  # the number of tensors whose ranges are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Span(ByteRange):
    """The bytes from the first to the last byte of a tensor that has gaps."""

    block: int  # the bytes of one block
    repeated: tuple[tuple[int, int], ...]  # the stride in bytes and the size of each dimension that repeats the block

    @property
    def blocks(self) -> int:
        """Return the number of blocks."""
        return prod(size for _, size in self.repeated)


def byte_ranges(tensor: Tensor) -> tuple[ByteRange, ...]:
    """Return the bytes of ``tensor``: exact for at most ``MOST_BLOCKS`` blocks, otherwise the span of all blocks.

    A sparse or nested tensor has tensors inside it. It uses no bytes itself.
    """
    if tensor.layout is not torch.strided or tensor.is_nested:
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
        return (Span(address=address, length=span, block=block, repeated=tuple(repeated)),)
    return tuple(ByteRange(address=start, length=block) for start in _starts(address, repeated))


def _starts(address: int, repeated: Sequence[tuple[int, int]]) -> list[int]:
    """Return the addresses of all blocks, in order."""
    starts = [address]
    for stride, size in reversed(repeated):
        starts = [start + index * stride for start in starts for index in range(size)]
    return starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """The bytes that a work uses."""

    reads: tuple[ByteRange, ...] = ()  # the bytes that it reads
    writes: tuple[ByteRange, ...] = ()  # the bytes that it writes

    @classmethod
    def of(cls, reads: Iterable[Tensor], writes: Iterable[Tensor]) -> Touched:
        """Return the bytes of a work that reads and writes these tensors."""
        read, written = (tuple(each for tensor in used for each in byte_ranges(tensor)) for used in (reads, writes))
        return cls(reads=read, writes=written)

    @property
    def has_spans(self) -> bool:
        """Return whether any range has gaps."""
        return any(isinstance(each, Span) for each in (*self.reads, *self.writes))

    def conflicts(self, other: Touched) -> bool:
        """Return whether one of two works writes a byte that the other uses."""
        return _have_common_bytes(self.writes, other.reads + other.writes) or _have_common_bytes(
            self.reads, other.writes
        )


def _have_common_bytes(first: Sequence[ByteRange], second: Sequence[ByteRange]) -> bool:
    """Return whether both have a byte in common. Bytes in the gaps of a span do not count."""
    if sum(each.blocks if isinstance(each, Span) else 1 for each in (*first, *second)) > _MOST_COMPARED:
        return True
    blocks = sorted(_exact(first))
    index = 0
    for start, end in sorted(_exact(second)):
        while index < len(blocks) and blocks[index][1] <= start:
            index += 1
        if index < len(blocks) and blocks[index][0] < end:
            return True
    return False


def _exact(ranges: Sequence[ByteRange]) -> Iterator[tuple[int, int]]:
    """Yield the first address and the end of each block."""
    for each in ranges:
        if isinstance(each, Span):
            yield from ((start, start + each.block) for start in _starts(each.address, each.repeated))
        else:
            yield each.address, each.end
