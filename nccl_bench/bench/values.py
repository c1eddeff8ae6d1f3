"""What every rank sends, and so what every rank must receive: values for which all arithmetic is exact.

A rank's input repeats a table of ``PERIOD`` values. The tables are bounded by data type, reduction and world size so
that every partial result, in whatever order a library reduces, is representable; the check is then equality. At
scale only some ranks contribute to any one element (zeros, or ones to a product, from the rest), and every rank
contributes to some. The one exception is a float average over a world that is no power of two: NCCL scales each input
before it adds (``ncclAvg`` is a pre-multiplied sum), so there a tolerance in ulp is stated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import RedOp, Result
from nccl_bench.catalog.dtypes import DTYPES, DType

# A prime, so that no power-of-two block, slot or vector width lines up with it.
PERIOD = 4093
# Integers beyond this gain nothing, and sums of them over any world stay far from 64 bits.
_LARGEST_VALUE = 2**20
# Products are worked out in int64.
_LARGEST_POWER = 62

Table = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64] | Table


def table(case: Case, rank: int, world_size: int) -> Table:
    """The values of one period of ``rank``'s input, as int64, shape ``(PERIOD,)``."""
    dtype = DTYPES[case.dtype]
    most = min(dtype.exact_integer, _LARGEST_VALUE)
    # Rank and element decide, never the process, so that every rank can work out every other's.
    random = np.random.default_rng([rank, world_size])
    if case.redop in (None, RedOp.MIN, RedOp.MAX):
        return random.integers(1, most, PERIOD, endpoint=True)
    contributors = _contributors(case, world_size)
    # Elements take turns through the ranks, so that also few elements hear from every rank.
    contributes = (np.arange(PERIOD) * contributors + rank) % world_size < contributors
    if case.redop is RedOp.PROD:
        return np.where(contributes, random.integers(1, 2, PERIOD, endpoint=True), 1)
    return np.where(contributes, random.integers(1, most // contributors, PERIOD, endpoint=True), 0)


def _contributors(case: Case, world_size: int) -> int:
    """How many ranks contribute to one element of a sum or a product; the others give what changes nothing."""
    dtype = DTYPES[case.dtype]
    if case.redop is RedOp.PROD:
        return min(world_size, _LARGEST_POWER, int(dtype.largest).bit_length() - 1)
    # At least two values to tell ranks apart by, so at most half of the exact range in contributors.
    return min(world_size, dtype.exact_integer // 2, _LARGEST_VALUE // 2)


_REDUCTIONS: Mapping[RedOp, Callable[[Table, Table], Table]] = {
    RedOp.SUM: np.add,
    RedOp.AVG: np.add,
    RedOp.PROD: np.multiply,
    RedOp.MIN: np.minimum,
    RedOp.MAX: np.maximum,
}


def reduced(case: Case, world_size: int) -> Values:
    """One period of the reduction over all ranks; float64 for a float average, else int64."""
    assert case.redop is not None
    reduction = _REDUCTIONS[case.redop]
    result = table(case, 0, world_size)
    for rank in range(1, world_size):
        result = reduction(result, table(case, rank, world_size))
    if case.redop is RedOp.AVG:
        return result / world_size if DTYPES[case.dtype].is_float else result // world_size
    return result


def tolerance_ulp(case: Case, world_size: int) -> int:
    """How many units in the last place a right result may be off: 0 but for float averages that cannot be exact."""
    dtype: DType = DTYPES[case.dtype]
    if case.redop is not RedOp.AVG or not dtype.is_float:
        return 0
    # 1/n is a power of two then, down to the smallest number of the narrowest type (float8_e4m3fn's 2^-9).
    if world_size & (world_size - 1) == 0 and (dtype.itemsize > 1 or world_size <= 512):
        return 0
    # The rounding of 1/n, of each product and of each partial sum: at most one ulp of the result for each rank that
    # adds anything. Not for each rank: at scale that many ulps would cover the whole of float8.
    return _contributors(case, world_size) + 2


def expected_tables(case: Case, rank: int, world_size: int) -> list[Values]:
    """One table for each block of ``rank``'s output, which begins at its element ``first_element``.

    Empty where the output is not defined on this rank.
    """
    result = case.row.result
    if case.row.result_at_root and rank != case.root:
        return []
    if result in (Result.REDUCED, Result.SCATTERED):
        return [reduced(case, world_size)]
    if result in (Result.GATHERED, Result.TRANSPOSED):
        return [table(case, source, world_size) for source in range(world_size)]
    if result is Result.SHIFTED:
        return [table(case, (rank - 1) % world_size, world_size)]
    assert result is Result.COPIED
    assert case.root is not None
    return [table(case, case.root, world_size)]


def first_element(case: Case, rank: int) -> int:
    """Where in the sender's input the elements of a block of ``rank``'s output begin."""
    return rank * case.count if case.row.result in (Result.SCATTERED, Result.TRANSPOSED) else 0
