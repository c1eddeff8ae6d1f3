"""The values that every rank sends, and so must receive. All arithmetic on them is exact.

A rank's input repeats a table of ``PERIOD`` values. The tables are bounded by data type, reduction and world size, so
that every partial result is representable, in whatever order a library reduces. The check is then equality. With many
ranks, only some of them contribute to an element (the others give 0, or 1 to a product), and every rank contributes to
some elements. One exception needs a tolerance in ulp: a float average where the world size is no power of two, since
NCCL scales each input before it adds (``ncclAvg`` is a pre-multiplied sum).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import RedOp, Result
from nccl_bench.catalog.dtypes import DTYPES

# A prime, so that no block, slot or vector width, which are powers of two, lines up with it.
PERIOD = 4093
# Larger integers would test no more, and sums of these stay far from 64 bits for any world size.
_LARGEST_VALUE = 2**20
# Products are computed in int64.
_LARGEST_POWER = 62

Table = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64] | Table


def table(case: Case, rank: int, world_size: int) -> Table:
    """Return one period of ``rank``'s input, int64, shape ``(PERIOD,)``."""
    most = min(DTYPES[case.dtype].exact_integer, _LARGEST_VALUE)
    # The seed does not depend on the process, so every rank can compute the table of every other rank.
    random = np.random.default_rng([rank, world_size])
    if case.redop in (None, RedOp.MIN, RedOp.MAX):
        return random.integers(1, most, PERIOD, endpoint=True)
    contributors = _contributors(case, world_size)
    # The contributors change from element to element, so few elements are enough to involve every rank.
    contributes = (np.arange(PERIOD) * contributors + rank) % world_size < contributors
    if case.redop is RedOp.PROD:
        return np.where(contributes, random.integers(1, 2, PERIOD, endpoint=True), 1)
    return np.where(contributes, random.integers(1, most // contributors, PERIOD, endpoint=True), 0)


def _contributors(case: Case, world_size: int) -> int:
    """Return how many ranks contribute to one element of a sum or a product."""
    dtype = DTYPES[case.dtype]
    if case.redop is RedOp.PROD:
        return min(world_size, _LARGEST_POWER, int(dtype.largest).bit_length() - 1)
    # Every contributor needs at least two values, which show ranks that are mixed up.
    return min(world_size, dtype.exact_integer // 2, _LARGEST_VALUE // 2)


_REDUCTIONS: Mapping[RedOp, Callable[[Table, Table], Table]] = {
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
    """Return by how many units in the last place a right result may differ: 0 except for some float averages."""
    dtype = DTYPES[case.dtype]
    if case.redop is not RedOp.AVG or not dtype.is_float:
        return 0
    # 1/n is then a power of two, down to the smallest number of the narrowest type (2^-9 of float8_e4m3fn).
    if world_size & (world_size - 1) == 0 and (dtype.itemsize > 1 or world_size <= 512):
        return 0
    # 1/n, each product and each partial sum are rounded: at most one ulp of the result for each contributor. One ulp
    # for each rank would be too much: with many ranks it would cover all values of float8.
    return _contributors(case, world_size) + 2


def expected_tables(case: Case, rank: int, world_size: int) -> list[Values]:
    """Return one table for each block of ``rank``'s output; none where the output is not defined on this rank.

    A block begins at the table's element ``first_element``.
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
    """Return the element of the sender's input with which a block of ``rank``'s output begins."""
    return rank * case.count if case.row.result in (Result.SCATTERED, Result.TRANSPOSED) else 0
