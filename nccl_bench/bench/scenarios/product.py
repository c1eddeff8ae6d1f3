"""A matrix product, the work of a caller beside a collective: its tensors, and a shape that takes a given time."""

from collections.abc import Callable
from functools import partial

import torch

from nccl_bench.communicators.protocol import Operation
from nccl_bench.config.product import Shape, product_bytes
from nccl_bench.streams.base import Streams

# The sides of a square product to try. The largest one fills the multiprocessors of any GPU many times.
_SIDES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)


def product(shape: Shape, streams: Streams) -> Operation:
    """Return a function that enqueues a product of ``shape`` in bfloat16, the data type of weights in an engine.

    The matrices are random: a product of zeros needs less power, and so can run at a higher clock.
    """
    m, n, k = shape
    left, right, output = (
        torch.randn(rows, columns, dtype=torch.bfloat16, device=streams.device)
        for rows, columns in ((m, k), (k, n), (m, n))
    )
    # The first product makes cuBLAS's state, which is not possible in a capture.
    torch.mm(left, right, out=output)
    return partial(streams.submit, partial(torch.mm, left, right, out=output))


def shape_that_takes(target_us: float, time_us: Callable[[Shape], float], most_bytes: int) -> Shape:
    """Return the shape of a product that takes about ``target_us`` microseconds; ``time_us`` measures a shape.

    The product has at most ``most_bytes`` bytes, unless the smallest one has more. It is a square, or its K is a
    multiple of its other two sides.
    """
    squares = [(side, side, side) for side in _SIDES]
    shape, shape_us = squares[0], time_us(squares[0])
    for larger in squares[1:]:
        if shape_us >= target_us or product_bytes(larger) > most_bytes:
            break
        larger_us = time_us(larger)
        if larger_us > target_us:
            break
        shape, shape_us = larger, larger_us
    longer = _longer(shape, target_us / shape_us, most_bytes)
    # The time is not quite proportional to K, so measure once more.
    return shape if longer == shape else _longer(longer, target_us / time_us(longer), most_bytes)


def _longer(shape: Shape, factor: float, most_bytes: int) -> Shape:
    """Return ``shape`` with a K that is about ``factor`` times as long: a multiple of its other sides."""
    m, n, k = shape
    # The bytes of the two inputs are proportional to K.
    of_output = product_bytes((m, n, 0))
    most = (most_bytes - of_output) // (product_bytes((m, n, m)) - of_output)
    return m, n, max(1, min(round(k * factor / m), most)) * m
