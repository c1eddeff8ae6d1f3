"""The shape of a matrix product, as the option ``--product`` takes it. No torch."""

import re

from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.errors import UsageError

# The rows of the first matrix, the columns of the second one, and the length of the sums: M, N and K.
Shape = tuple[int, int, int]
_LONGEST_SIDE = 1_000_000
_SIDE = r"\s*([0-9]{1,9})\s*"
_FORM = re.compile(f"{_SIDE}[,x]{_SIDE}[,x]{_SIDE}")


def parse_product(name: str, value: object, _device: DeviceSpec) -> Shape:
    """Return the shape that ``value`` describes: a text such as ``4096,4096,16384``, or a list of three numbers."""
    sides: tuple[object, ...] = ()
    if isinstance(value, str) and (match := _FORM.fullmatch(value)):
        sides = tuple(map(int, match.groups()))
    elif isinstance(value, list | tuple):
        sides = tuple(value)
    if len(sides) != 3 or not all(type(side) is int and 1 <= side <= _LONGEST_SIDE for side in sides):
        raise UsageError(
            f"{name} is {value!r}: give M,N,K, the shape of a matrix product, each from 1 to {_LONGEST_SIDE:,}, such "
            "as 4096,4096,16384"
        )
    m, n, k = (int(str(side)) for side in sides)
    return m, n, k


def product_bytes(shape: Shape) -> int:
    """Return the bytes of the three matrices of a product in bfloat16."""
    m, n, k = shape
    return 2 * (m * k + k * n + m * n)


def product_name(shape: Shape) -> str:
    """Return the shape of a matrix product as text: ``4096x4096x16384``."""
    return "x".join(map(str, shape))
