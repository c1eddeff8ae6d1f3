"""Inputs and expected values: exact in every order of reduction, and different where a mistake could hide."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from nccl_bench.bench import values
from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.dtypes import DTYPES

# With the last two, the ranks outnumber the integers that float8 and bfloat16 hold exactly.
WORLD_SIZES = (1, 2, 3, 4, 5, 8, 16, 64, 300)
FLOATS = [name for name, dtype in DTYPES.items() if dtype.is_float]
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
REDUCTIONS = {RedOp.SUM: np.sum, RedOp.AVG: np.sum, RedOp.PROD: np.prod, RedOp.MIN: np.min, RedOp.MAX: np.max}
ACCUMULATES = {RedOp.SUM: np.cumsum, RedOp.AVG: np.cumsum, RedOp.PROD: np.cumprod}


def case(dtype: str, redop: RedOp | None, collective: str = "all_reduce", root: int | None = None) -> Case:
    return Case(
        scenario=Scenario.ISOLATED,
        collective=collective,
        dtype=dtype,
        redop=redop,
        placement=Placement.OUT_OF_PLACE,
        root=root,
        size_bytes=0,
        count=37,
    )


@cache
def inputs(what: Case, world_size: int) -> npt.NDArray[np.int64]:
    """Return every rank's table, shape (world size, period); with many ranks, a part of the period."""
    elements = values.PERIOD if world_size <= 4 else 500
    return np.stack([values.table(what, rank, world_size)[:elements] for rank in range(world_size)])


def reduced(what: Case, world_size: int) -> npt.NDArray[np.int64] | npt.NDArray[np.float64]:
    """Return the reduction of the inputs, computed independently."""
    assert what.redop is not None
    total = REDUCTIONS[what.redop](inputs(what, world_size), axis=0)
    if what.redop is not RedOp.AVG:
        return total
    return total / world_size if what.dtype in FLOATS else total // world_size


def orders(world_size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the ranks in order, in reverse, and shuffled a few times."""
    yield np.arange(world_size)
    yield np.arange(world_size)[::-1].copy()
    random = np.random.default_rng(7)
    for _ in range(1 if world_size > 16 else 3):
        yield random.permutation(world_size)


def stored(table: npt.NDArray[np.int64] | npt.NDArray[np.float64], dtype: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(table)).to(getattr(torch, dtype))


def is_exact(table: npt.NDArray[np.int64], dtype: str) -> bool:
    return bool((stored(table, dtype).to(torch.int64).numpy() == table).all())


def bits(tensor: Tensor) -> Tensor:
    return tensor.view(BITS[tensor.dtype.itemsize])


def rounded(wide: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``wide`` rounded to float8, which has no arithmetic; values of other types stay as they are."""
    return wide.to(dtype).to(wide.dtype) if dtype.itemsize == 1 and dtype.is_floating_point else wide


def reduce_in_dtype(tensors: list[Tensor], redop: RedOp) -> Tensor:
    """Return the reduction in the given order, with every partial result in the dtype."""
    dtype = tensors[0].dtype
    float8 = dtype.itemsize == 1 and dtype.is_floating_point
    operation = {
        RedOp.SUM: torch.add,
        RedOp.AVG: torch.add,
        RedOp.PROD: torch.mul,
        RedOp.MIN: torch.minimum,
        RedOp.MAX: torch.maximum,
    }[redop]
    partial, *rest = [tensor.float() for tensor in tensors] if float8 else tensors
    for tensor in rest:
        partial = rounded(operation(partial, tensor), dtype)
    return partial.to(dtype)


@pytest.mark.parametrize("redop", ACCUMULATES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_partial_result_is_representable_in_any_order(dtype: str, redop: RedOp) -> None:
    for world_size in WORLD_SIZES:
        tables = inputs(case(dtype, redop), world_size)
        assert is_exact(tables, dtype)
        for order in orders(world_size):
            assert is_exact(ACCUMULATES[redop](tables[order], axis=0), dtype), world_size
        # Trees and rings add up groups of neighbours.
        for size in (2, 3, 8):
            groups = [tables[at : at + size] for at in range(0, world_size, size)]
            assert is_exact(np.stack([ACCUMULATES[redop](group, axis=0)[-1] for group in groups]), dtype), world_size


@pytest.mark.parametrize("redop", [redop for redop in RedOp if redop is not RedOp.AVG])
@pytest.mark.parametrize("dtype", DTYPES)
def test_arithmetic_in_the_dtype_gives_the_expected_bits(dtype: str, redop: RedOp) -> None:
    what = case(dtype, redop)
    for world_size in (1, 2, 3, 4, 5, 8, 16):
        tables = inputs(what, world_size)
        expected = bits(stored(values.reduced(what, world_size)[: tables.shape[1]], dtype))
        for order in orders(world_size):
            got = reduce_in_dtype([stored(tables[rank], dtype) for rank in order], redop)
            assert torch.equal(bits(got), expected), world_size


@pytest.mark.parametrize("world_size", [2, 5, 64])
@pytest.mark.parametrize("dtype", [name for name in DTYPES if name not in FLOATS])
def test_an_integer_average_is_the_sum_divided_down(dtype: str, world_size: int) -> None:
    what = case(dtype, RedOp.AVG)
    assert values.tolerance_ulp(what, world_size) == 0
    total = reduce_in_dtype([stored(table, dtype) for table in inputs(what, world_size)], RedOp.SUM)
    assert torch.equal(total // world_size, stored(values.reduced(what, world_size)[: len(total)], dtype))


def premultiplied(tables: npt.NDArray[np.int64], dtype: str) -> Tensor:
    """Return the average as ncclAvg computes it: scale, products and partial sums are each rounded to the dtype."""
    kind: torch.dtype = getattr(torch, dtype)
    wide = torch.float32 if kind.itemsize == 1 else kind
    scale = rounded(torch.tensor(1 / len(tables), dtype=torch.float64).to(kind).to(wide), kind)
    products = [rounded(stored(table, dtype).to(wide) * scale, kind).to(kind) for table in tables]
    return reduce_in_dtype(products, RedOp.SUM)


def divided(tables: npt.NDArray[np.int64], dtype: str) -> Tensor:
    """Return the average as Gloo computes it: the sum, then one division."""
    total = reduce_in_dtype([stored(table, dtype) for table in tables], RedOp.SUM)
    wide = torch.float32 if total.dtype.itemsize == 1 else total.dtype
    return (total.to(wide) / len(tables)).to(total.dtype)


def ulps_apart(got: Tensor, expected: Tensor) -> int:
    assert bool((expected.double() > 0).all())
    return int((bits(got).long() - bits(expected).long()).abs().max())


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_float_average_stays_within_its_tolerance(dtype: str) -> None:
    what = case(dtype, RedOp.AVG)
    for world_size in (*WORLD_SIZES, 6, 7, 9, 12, 24, 72, 128, 200, 512, 1024):
        tables = inputs(what, world_size)
        expected = stored(reduced(what, world_size), dtype)
        allowed = values.tolerance_ulp(what, world_size)
        assert ulps_apart(divided(tables, dtype), expected) <= allowed, world_size
        for order in itertools.islice(orders(world_size), 1 if world_size > 100 else 3):
            assert ulps_apart(premultiplied(tables[order], dtype), expected) <= allowed, world_size


@pytest.mark.parametrize("dtype", FLOATS)
def test_there_is_a_tolerance_only_for_float_averages_of_other_world_sizes_than_powers_of_two(dtype: str) -> None:
    sizes = {world_size for world_size in range(1, 65) if values.tolerance_ulp(case(dtype, RedOp.AVG), world_size)}
    assert sizes == set(range(1, 65)) - {1, 2, 4, 8, 16, 32, 64}
    for redop in (None, RedOp.SUM, RedOp.PROD, RedOp.MIN, RedOp.MAX):
        assert values.tolerance_ulp(case(dtype, redop), 1000) == 0


@pytest.mark.parametrize("world_size", [3, 5, 24, 72, 1000, 10_000])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_tolerance_never_covers_the_poison_or_a_sum_that_was_not_divided(dtype: str, world_size: int) -> None:
    what = case(dtype, RedOp.AVG)
    expected = stored(reduced(what, min(world_size, 1000)), dtype)
    allowed = values.tolerance_ulp(what, world_size)
    poison = bits(torch.full_like(bits(expected), -1 if bits(expected).is_signed() else 255))
    assert bool(((poison.long() - bits(expected).long()).abs() > allowed).all())
    undivided = stored(reduced(case(dtype, RedOp.SUM), min(world_size, 1000)), dtype)
    wrong = (bits(undivided).long() - bits(expected).long()).abs() > allowed
    assert bool(wrong.any())


@pytest.mark.parametrize("redop", [None, *RedOp])
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_expected_value_is_the_poison_or_zero(dtype: str, redop: RedOp | None) -> None:
    what = case(dtype, redop)
    # Values that are only moved or compared do not depend on the world size.
    for world_size in WORLD_SIZES if redop in ACCUMULATES else (1, 2, 5, 64):
        tables = inputs(what, world_size)
        expected = reduced(what, world_size) if redop else tables
        for tensor in (stored(tables, dtype), stored(expected, dtype)):
            assert not bool((bits(tensor) == (-1 if bits(tensor).is_signed() else 255)).any()), world_size
        # An integer average of such small values may be 0. Other elements then show a missing result.
        if redop is not RedOp.AVG or dtype in FLOATS:
            assert bool((stored(expected, dtype).double() > 0).all()), world_size


@pytest.mark.parametrize("redop", [None, *RedOp])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_tables_of_two_ranks_differ_in_many_places(dtype: str, redop: RedOp | None) -> None:
    for world_size in (2, 3, 5, 8, 64):
        tables = inputs(case(dtype, redop), world_size)
        for first, second in itertools.combinations(range(min(world_size, 8)), 2):
            assert (tables[first] != tables[second]).sum() > 5, world_size


@pytest.mark.parametrize("redop", ACCUMULATES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_rank_contributes_to_one_of_the_first_elements(dtype: str, redop: RedOp) -> None:
    for world_size in WORLD_SIZES:
        tables = inputs(case(dtype, redop), world_size)
        if redop is RedOp.PROD:
            # A contribution of 1 looks like none, so only a whole period has other contributions for sure.
            assert world_size > 64 or (tables > 1).any(axis=1).all(), world_size
        else:
            # With a dtype of few exact values, the ranks take turns from element to element.
            turns = -(-world_size // (tables > 0).sum(axis=0).min())
            assert (tables > 0)[:, :turns].any(axis=1).all(), world_size


def test_every_rank_contributes_even_with_more_ranks_than_elements_in_a_period() -> None:
    what, world_size = case("float8_e5m2", RedOp.SUM), values.PERIOD + 1000
    assert all(values.table(what, rank, world_size).any() for rank in range(0, world_size, 10))


@pytest.mark.parametrize("redop", RedOp)
def test_a_missing_contribution_changes_the_result(redop: RedOp) -> None:
    for dtype in DTYPES:
        what = case(dtype, redop)
        tables = inputs(what, 8)
        for missing in range(8):
            rest = np.delete(tables, missing, axis=0)
            assert (REDUCTIONS[redop](rest, axis=0) != REDUCTIONS[redop](tables, axis=0)).any(), (dtype, missing)


def test_a_table_is_the_same_in_every_process() -> None:
    table = values.table(case("bfloat16", RedOp.SUM), 3, 8)
    assert (table.shape, table[:5].tolist()) == ((values.PERIOD,), [4, 12, 14, 31, 22])


def sources(collective: str, rank: int, world_size: int, root: int | None = None) -> list[int]:
    """Return the ranks whose inputs are the blocks of the output."""
    what = case("float32", None, collective, root)
    tables = [table.tolist() for table in inputs(what, world_size)]
    return [tables.index(expected.tolist()) for expected in values.expected_tables(what, rank, world_size)]


def test_each_block_of_an_output_comes_from_its_rank() -> None:
    assert sources("all_gather", 2, 4) == [0, 1, 2, 3]
    assert sources("all_to_all", 2, 4) == [0, 1, 2, 3]
    assert sources("broadcast", 2, 4, root=3) == [3]
    assert sources("gather", 3, 4, root=3) == [0, 1, 2, 3]
    assert sources("gather", 2, 4, root=3) == []
    assert sources("send_recv", 2, 4) == [1]
    assert sources("send_recv", 0, 4) == [3]


@pytest.mark.parametrize("collective", ["all_reduce", "reduce_scatter"])
def test_a_reduction_is_expected_on_every_rank(collective: str) -> None:
    what = case("int32", RedOp.SUM, collective)
    for rank in range(3):
        (expected,) = values.expected_tables(what, rank, 3)
        assert (expected == inputs(what, 3).sum(axis=0)).all()


def test_a_reduction_to_a_root_is_expected_on_the_root_only() -> None:
    what = case("int32", RedOp.MAX, "reduce", root=1)
    (expected,) = values.expected_tables(what, 1, 3)
    assert (expected == inputs(what, 3).max(axis=0)).all()
    assert values.expected_tables(what, 0, 3) == values.expected_tables(what, 2, 3) == []


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_a_block_begins_where_its_sender_has_it(collective: str) -> None:
    row = COLLECTIVES[collective]
    what = case("int32", RedOp.SUM if row.reduces else None, collective, 0 if row.rooted else None)
    begins = 2 * 37 if collective in ("reduce_scatter", "reduce_scatterv", "all_to_all") else 0
    assert values.first_element(what, 2, 4) == begins
