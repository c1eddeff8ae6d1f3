"""The tables against nccl-tests: figures that it printed on 4 GPUs, and figures computed by hand."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.dtypes import DTYPE_ALIASES, DTYPES
from nccl_bench.config.run import resolve

MIB = 1024**2


@pytest.mark.parametrize(
    ("size_bytes", "count", "time_us", "algbw", "busbw"),
    [
        (134217728, 67108864, 609.65, 220.16, 330.23),
        (536870912, 268435456, 2313.46, 232.06, 348.10),
        (8388608, 4194304, 62.48, 134.27, 201.40),
        (131072, 65536, 12.20, 10.74, 16.12),
        (512, 256, 10.13, 0.05, 0.08),
        (8, 4, 9.50, 0.00, 0.00),
    ],
)
def test_bandwidths_of_all_reduce_equal_the_figures_of_nccl_tests(
    size_bytes: int, count: int, time_us: float, algbw: float, busbw: float
) -> None:
    row = COLLECTIVES["all_reduce"]
    assert row.block_count(size_bytes, 2, 4) == count
    assert row.size_bytes(count, 2, 4) == size_bytes
    # nccl-tests computes with more digits of the time than it prints.
    half_a_printed_digit = 0.005 + row.algbw_gb_s(size_bytes, time_us) * 0.005 / time_us
    assert row.algbw_gb_s(size_bytes, time_us) == pytest.approx(algbw, abs=half_a_printed_digit)
    assert row.busbw_gb_s(size_bytes, time_us, 4) == pytest.approx(busbw, abs=1.5 * half_a_printed_digit)


@pytest.mark.parametrize(
    ("collective", "send", "receive", "factor_4", "factor_8"),
    [
        ("all_reduce", 48, 48, 1.5, 1.75),
        ("all_gather", 48, 192, 0.75, 0.875),
        ("reduce_scatter", 192, 48, 0.75, 0.875),
        ("all_gatherv", 48, 192, 0.75, 0.875),
        ("reduce_scatterv", 192, 48, 0.75, 0.875),
        ("all_to_all", 192, 192, 0.75, 0.875),
        ("broadcast", 48, 48, 1, 1),
        ("reduce", 48, 48, 1, 1),
        ("gather", 48, 192, 0.75, 0.875),
        ("send_recv", 48, 48, 1, 1),
    ],
)
def test_counts_size_and_bandwidths_of_a_block_of_48_on_4_ranks(
    collective: str, send: int, receive: int, factor_4: float, factor_8: float
) -> None:
    row = COLLECTIVES[collective]
    assert (row.send_count(48, 4), row.receive_count(48, 4)) == (send, receive)
    assert row.size_bytes(48, 2, 4) == 2 * max(send, receive)
    assert (row.bus_factor(4), row.bus_factor(8)) == (factor_4, factor_8)
    assert row.algbw_gb_s(8 * MIB, 1000.0) == pytest.approx(8.388608)
    assert row.busbw_gb_s(8 * MIB, 1000.0, 4) == pytest.approx(8.388608 * factor_4)


@pytest.mark.parametrize("collective", ["all_gatherv", "reduce_scatterv"])
@pytest.mark.parametrize(
    ("count", "world_size", "counts"),
    [(8, 4, [12, 4, 12, 4]), (8, 3, [12, 4, 8]), (5, 2, [7, 3]), (8, 1, [8]), (1, 2, [1, 1])],
)
def test_blocks_of_uneven_forms_differ_and_have_the_mean_of_equal_blocks(
    collective: str, count: int, world_size: int, counts: list[int]
) -> None:
    row = COLLECTIVES[collective]
    assert row.block_counts(count, world_size) == counts
    assert COLLECTIVES[row.operation].block_counts(count, world_size) == [count] * world_size
    assert sum(counts) == count * world_size


@pytest.mark.parametrize("collective", ["all_gather", "reduce_scatter", "all_gatherv", "all_to_all", "gather"])
@pytest.mark.parametrize(
    ("size_bytes", "itemsize", "world_size", "count", "rounded_bytes"),
    [
        (8, 2, 4, 0, 0),
        (63, 2, 4, 0, 0),
        (64, 2, 4, 8, 64),
        (127, 2, 4, 8, 64),
        (128, 2, 4, 16, 128),
        (1000, 4, 3, 80, 960),
        (1000, 1, 7, 128, 896),
        (1000, 8, 3, 40, 960),
        (16, 8, 1, 2, 16),
        (15, 1, 1, 0, 0),
    ],
)
def test_the_block_of_a_split_message_is_rounded_down_to_16_bytes(
    collective: str, size_bytes: int, itemsize: int, world_size: int, count: int, rounded_bytes: int
) -> None:
    row = COLLECTIVES[collective]
    assert row.block_count(size_bytes, itemsize, world_size) == count
    assert row.size_bytes(count, itemsize, world_size) == rounded_bytes


@pytest.mark.parametrize("collective", ["all_reduce", "broadcast", "reduce", "send_recv"])
@pytest.mark.parametrize(
    ("size_bytes", "itemsize", "count", "rounded_bytes"),
    [(8, 2, 4, 8), (10, 4, 2, 8), (1, 2, 0, 0), (1001, 2, 500, 1000)],
)
def test_a_whole_message_is_rounded_down_to_an_element(
    collective: str, size_bytes: int, itemsize: int, count: int, rounded_bytes: int
) -> None:
    row = COLLECTIVES[collective]
    assert row.block_count(size_bytes, itemsize, 4) == count
    assert row.size_bytes(count, itemsize, 4) == rounded_bytes


def test_collectives_that_reduce_or_have_a_root_or_one_placement() -> None:
    reducing = {"all_reduce", "reduce_scatter", "reduce_scatterv", "reduce"}
    assert {name for name, row in COLLECTIVES.items() if row.reduces} == reducing
    assert {name for name, row in COLLECTIVES.items() if row.rooted} == {"broadcast", "reduce", "gather"}
    not_in_place = {name for name, row in COLLECTIVES.items() if Placement.IN_PLACE not in row.placements}
    assert not_in_place == {"all_to_all", "send_recv"}
    not_returned = {name for name, row in COLLECTIVES.items() if Placement.RETURNED not in row.placements}
    assert not_returned == {"all_gatherv", "reduce_scatterv"}
    assert all(Placement.OUT_OF_PLACE in row.placements for row in COLLECTIVES.values())


def test_an_absence_names_communicators_that_exist() -> None:
    named = {name for row in COLLECTIVES.values() for absence in row.absences for name in absence.communicators}
    assert named <= {arm.communicator for arm in ARMS.values()}


@pytest.mark.parametrize("placement", [Placement.IN_PLACE, Placement.OUT_OF_PLACE])
def test_only_the_communicators_of_engines_coordinators_and_nccl4py_lack_gather(placement: Placement) -> None:
    lacking = {arm.communicator for arm in ARMS.values() if COLLECTIVES["gather"].absence(arm.communicator, placement)}
    assert lacking == {"coordinator", "coordinator-legacy", "nccl4py"}


NCCL_TESTS_DTYPES: Mapping[str, str] = {
    "double": "float64",
    "float": "float32",
    "half": "float16",
    "bfloat16": "bfloat16",
    "f8e4m3": "float8_e4m3fn",
    "f8e5m2": "float8_e5m2",
    "int8": "int8",
    "uint8": "uint8",
    "int32": "int32",
    "int64": "int64",
}


def test_dtypes_have_nccl_tests_names_too() -> None:
    assert dict(DTYPE_ALIASES) == NCCL_TESTS_DTYPES
    assert resolve("cpu", {"dtypes": ",".join(NCCL_TESTS_DTYPES)}).dtypes == tuple(NCCL_TESTS_DTYPES.values())


@pytest.mark.parametrize("name", DTYPES)
def test_a_dtype_has_the_properties_of_torchs_dtype(name: str) -> None:
    dtype = DTYPES[name]
    kind: torch.dtype = getattr(torch, name)
    assert (dtype.itemsize, dtype.is_float) == (kind.itemsize, kind.is_floating_point)
    limits = torch.finfo(kind) if dtype.is_float else torch.iinfo(kind)
    assert dtype.largest <= limits.max
    # 255 is the poison of uint8, so its limit is one less.
    assert dtype.largest >= limits.max * (0.97 if dtype.is_float or name == "uint8" else 1)

    def holds(number: int) -> bool:
        return int(torch.tensor(number).to(kind).to(torch.int64)) == number

    numbers = {*range(300), *(2**power + offset for power in range(54) for offset in (-1, 0, 1))}
    assert all(holds(number) for number in numbers if number <= dtype.exact_integer)
    if dtype.is_float:
        assert not holds(dtype.exact_integer + 1)


def test_every_case_of_a_run_has_a_different_label() -> None:
    common = {"scenario": Scenario.ISOLATED, "dtype": "bfloat16", "root": None, "count": 4}
    cases = [
        Case(collective=collective, redop=redop, placement=placement, size_bytes=size_bytes, **common)
        for collective, redops in (("all_reduce", tuple(RedOp)), ("all_gather", (None,)))
        for redop in redops
        for placement in Placement
        for size_bytes in (8, 1024)
    ]
    assert len({case.label for case in cases}) == len(cases)
    assert cases[0].label == "all_reduce bfloat16 sum 8 B"
