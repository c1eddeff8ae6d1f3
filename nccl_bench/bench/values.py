"""The values that every rank sends, and the results that it must receive. The results are exact, with one exception.

A rank's input repeats a table of ``PERIOD`` values. The values are so small that every partial result is exact in the
data type, in any order of reduction. The check compares for equality. With many ranks, only some ranks
contribute to an element; the other ranks send 0, or 1 for a product. Every rank contributes to some elements. An
average of floats is not exact if the world size is not a power of two. NCCL scales each input before the addition
(``ncclAvg`` is a pre-multiplied sum), so the check allows a tolerance in ulp (units in the last place).
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import RedOp, Result
from nccl_bench.catalog.dtypes import DTYPES

# The length of a table. This prime divides no size of a block, slot or vector: these sizes are powers of two.
PERIOD = 4093
# Larger values would not test more. The sums of these values fit into 64-bit integers for every world size.
_LARGEST_VALUE = 2**20
# Products of ones and twos are computed in int64, so at most this many factors can be 2.
_LARGEST_POWER = 62

Integers = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64] | Integers


def table(case: Case, rank: int, world_size: int) -> Integers:
    """Return one period of ``rank``'s input, as int64 of shape ``(PERIOD,)``."""
    most = min(DTYPES[case.dtype].exact_integer, _LARGEST_VALUE)
    # The seed depends only on rank and world size, so every rank can compute the table of every other rank.
    random = np.random.default_rng([rank, world_size])
    if case.redop in (None, RedOp.MIN, RedOp.MAX):
        return random.integers(1, most, PERIOD, endpoint=True)
    contributors = _contributors(case, world_size)
    # The contributors change from element to element, so that every rank contributes to some elements.
    contributes = (np.arange(PERIOD) * contributors + rank) % world_size < contributors
    if case.redop is RedOp.PROD:
        return np.where(contributes, random.integers(1, 2, PERIOD, endpoint=True), 1)
    return np.where(contributes, random.integers(1, most // contributors, PERIOD, endpoint=True), 0)


def _contributors(case: Case, world_size: int) -> int:
    """Return how many ranks contribute to one element of a sum or a product."""
    dtype = DTYPES[case.dtype]
    if case.redop is RedOp.PROD:
        return min(world_size, _LARGEST_POWER, int(dtype.largest).bit_length() - 1)
    # Each contributor needs at least two possible values. With one value, the check would miss exchanged ranks.
    return min(world_size, dtype.exact_integer // 2, _LARGEST_VALUE // 2)


_REDUCTIONS: Mapping[RedOp, Callable[[Integers, Integers], Integers]] = {
    RedOp.SUM: np.add,
    RedOp.AVG: np.add,
    RedOp.PROD: np.multiply,
    RedOp.MIN: np.minimum,
    RedOp.MAX: np.maximum,
}


def reduced(case: Case, world_size: int) -> Values:
    """Return one period of the reduction over all ranks: float64 for a float average, otherwise int64."""
    assert case.redop is not None
    reduction = _REDUCTIONS[case.redop]
    result = table(case, 0, world_size)
    for rank in range(1, world_size):
        result = reduction(result, table(case, rank, world_size))
    if case.redop is RedOp.AVG:
        return result / world_size if DTYPES[case.dtype].is_float else result // world_size
    return result


def tolerance_ulp(case: Case, world_size: int) -> int:
    """Return the largest error of a right result, in ulp. Only some averages of floats have an error."""
    dtype = DTYPES[case.dtype]
    if case.redop is not RedOp.AVG or not dtype.is_float:
        return 0
    # Scaling by a power of two is exact if the data type has that power. In float8_e4m3fn, 2^-9 is the smallest power.
    if world_size & (world_size - 1) == 0 and (dtype.itemsize > 1 or world_size <= 512):
        return 0
    # 1 / world_size, each product and each partial sum are rounded. The error is at most one ulp for each contributor.
    # One ulp for each rank would be too large: with many ranks, every float8 value would count as right.
    return _contributors(case, world_size) + 2


def expected_tables(case: Case, rank: int, world_size: int) -> list[Values]:
    """Return one table for each block of ``rank``'s output, or no table if the output is not defined.

    Each block begins with the element of the table whose index is ``first_element(case, rank, world_size)``.
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


def first_element(case: Case, rank: int, world_size: int) -> int:
    """Return the index, in the sender's input, of the first element of each block that ``rank`` receives."""
    if case.row.result not in (Result.SCATTERED, Result.TRANSPOSED):
        return 0
    return sum(case.row.block_counts(case.count, world_size)[:rank])
