"""The table of data types, with the range in which the arithmetic of each is exact."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DType:
    """A row of the table of data types."""

    name: str  # the name in torch
    itemsize: int  # the bytes of one element
    is_float: bool  # whether the type is a floating-point type; False: an integer type
    exact_integer: int  # the largest n so that every integer from 0 to n is representable
    largest: float  # the largest finite value
    nccl_tests_name: str  # the name in nccl-tests; options accept this name too


_ROWS = (
    DType(name="float64", itemsize=8, is_float=True, exact_integer=2**53, largest=1.79e308, nccl_tests_name="double"),
    DType(name="float32", itemsize=4, is_float=True, exact_integer=2**24, largest=3.4e38, nccl_tests_name="float"),
    DType(name="float16", itemsize=2, is_float=True, exact_integer=2**11, largest=65504, nccl_tests_name="half"),
    DType(name="bfloat16", itemsize=2, is_float=True, exact_integer=2**8, largest=3.3e38, nccl_tests_name="bfloat16"),
    DType(name="float8_e4m3fn", itemsize=1, is_float=True, exact_integer=16, largest=448, nccl_tests_name="f8e4m3"),
    DType(name="float8_e5m2", itemsize=1, is_float=True, exact_integer=8, largest=57344, nccl_tests_name="f8e5m2"),
    DType(name="int8", itemsize=1, is_float=False, exact_integer=127, largest=127, nccl_tests_name="int8"),
    DType(name="uint8", itemsize=1, is_float=False, exact_integer=254, largest=254, nccl_tests_name="uint8"),
    DType(
        name="int32", itemsize=4, is_float=False, exact_integer=2**31 - 1, largest=2**31 - 1, nccl_tests_name="int32"
    ),
    DType(name="int64", itemsize=8, is_float=False, exact_integer=2**53, largest=2**63 - 1, nccl_tests_name="int64"),
)
DTYPES: Mapping[str, DType] = {row.name: row for row in _ROWS}
DTYPE_ALIASES: Mapping[str, str] = {row.nccl_tests_name: row.name for row in _ROWS}
