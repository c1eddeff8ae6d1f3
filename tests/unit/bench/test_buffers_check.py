"""The check, on the buffers of every rank in one process: right results pass, and planted errors are found."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from torch import Tensor

from nccl_bench.bench import buffers as buffers_module
from nccl_bench.bench import values
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.dtypes import DTYPES
from tests.support.all_ranks import BITS, COUNT, KINDS, SUMS, AllRanks

REDUCTIONS = list(dict.fromkeys((name, redop) for name, redop, _ in KINDS))


@pytest.mark.parametrize(("name", "redop", "placement"), KINDS)
def test_a_right_collective_has_no_wrong_element(name: str, redop: RedOp | None, placement: Placement) -> None:
    for dtype, ranks in (*itertools.product(DTYPES, (3,)), ("bfloat16", 1), ("bfloat16", 2)):
        assert AllRanks(name, redop, placement, dtype=dtype, ranks=ranks).run().wrong() == [0] * ranks, dtype


@pytest.mark.parametrize("count", [1, values.PERIOD, 2 * values.PERIOD + 5])
@pytest.mark.parametrize(("name", "redop", "placement"), SUMS)
def test_blocks_of_any_length_repeat_the_table(
    name: str, redop: RedOp | None, placement: Placement, count: int
) -> None:
    all_ranks = AllRanks(name, redop, placement, count=count, ranks=4).run()
    assert all_ranks.wrong() == [0, 0, 0, 0]
    source = all_ranks.ranks[0].input(0).double()
    if len(source) > values.PERIOD and placement is not Placement.IN_PLACE:
        assert torch.equal(source[values.PERIOD :], source[: -values.PERIOD])


@pytest.mark.parametrize(("name", "redop", "placement"), SUMS)
def test_each_changed_element_is_counted(name: str, redop: RedOp | None, placement: Placement) -> None:
    all_ranks = AllRanks(name, redop, placement).run()
    for rank in all_ranks.checked:
        all_ranks.bits(rank, slot=0)[0] ^= 1
        all_ranks.bits(rank, slot=1)[-1] ^= 1
        all_ranks.bits(rank, slot=1)[5] ^= 1 << 6
    assert all_ranks.wrong() == [3 if rank in all_ranks.checked else 0 for rank in range(3)]
    assert all(all_ranks.wrong_of(rank, 1) == 1 for rank in all_ranks.checked)


@pytest.mark.parametrize(("name", "redop"), REDUCTIONS)
def test_an_unwritten_element_is_counted(name: str, redop: RedOp | None) -> None:
    for dtype in DTYPES:
        all_ranks = AllRanks(name, redop, Placement.OUT_OF_PLACE, dtype=dtype)
        before = [all_ranks.bits(rank)[7].clone() for rank in range(3)]
        all_ranks.run()
        for rank in range(3):
            all_ranks.bits(rank)[7] = before[rank]
        assert all_ranks.wrong() == [1 if rank in all_ranks.checked else 0 for rank in range(3)], dtype


@pytest.mark.parametrize(("name", "redop"), REDUCTIONS)
def test_every_element_is_wrong_out_of_place_if_nothing_is_done(name: str, redop: RedOp | None) -> None:
    all_ranks = AllRanks(name, redop, Placement.OUT_OF_PLACE)
    everything = [2 * len(all_ranks.bits(rank)) for rank in range(3)]
    assert all_ranks.wrong() == [everything[rank] if rank in all_ranks.checked else 0 for rank in range(3)]


@pytest.mark.parametrize(
    ("name", "redop"), [(name, redop) for name, redop, placement in KINDS if placement is Placement.IN_PLACE]
)
def test_most_elements_are_wrong_in_place_if_nothing_is_done(name: str, redop: RedOp | None) -> None:
    for dtype in DTYPES:
        wrong = AllRanks(name, redop, Placement.IN_PLACE, dtype=dtype, ranks=4, root=3).wrong()
        if name == "broadcast":
            assert wrong[3] == 0, dtype
            assert min(wrong[:3]) > COUNT, dtype
        else:
            # Some elements may hold a minimum, a maximum or an average from the start, but not most of them.
            assert sum(wrong) > COUNT // 2, dtype


@pytest.mark.parametrize(("name", "redop", "placement"), [kind for kind in KINDS if kind[1] is not None])
def test_a_missing_contribution_is_caught(name: str, redop: RedOp | None, placement: Placement) -> None:
    neutral = {RedOp.PROD: 1, RedOp.MIN: 400, RedOp.MAX: 0}.get(redop, 0) if redop else 0
    dtype = "float32" if redop is RedOp.AVG else "bfloat16"

    def drop(missing: int, inputs: list[Tensor]) -> list[Tensor]:
        inputs[missing].fill_(neutral)
        return inputs

    for missing in range(3):
        all_ranks = AllRanks(name, redop, placement, dtype=dtype).run(partial(drop, missing))
        assert all(all_ranks.wrong()[rank] > 0 for rank in all_ranks.checked), missing


@pytest.mark.parametrize("name", ["all_gather", "all_to_all", "gather", "send_recv", "reduce_scatter"])
def test_swapped_blocks_are_caught(name: str) -> None:
    reduces = COLLECTIVES[name].reduces
    for placement in COLLECTIVES[name].placements:
        all_ranks = AllRanks(name, RedOp.SUM if reduces else None, placement, dtype="int32").run()
        if name in ("all_gather", "all_to_all", "gather"):
            blocks = all_ranks.bits(1).view(3, -1)
            blocks[[0, 2]] = blocks[[2, 0]]
            assert all_ranks.wrong()[1] > COUNT
        else:
            first, second = all_ranks.bits(0), all_ranks.bits(1)
            swapped = first.clone()
            first.copy_(second)
            second.copy_(swapped)
            assert min(all_ranks.wrong()[:2]) > COUNT // 2
            assert all_ranks.wrong()[2] == 0


@pytest.mark.parametrize("placement", Placement)
def test_the_wrong_root_is_caught(placement: Placement) -> None:
    all_ranks = AllRanks("broadcast", None, placement, dtype="int32").run(root=2)
    assert min(all_ranks.wrong_of(rank, 1) for rank in range(3)) > COUNT // 2
    all_ranks = AllRanks("reduce", RedOp.SUM, placement, dtype="int32").run(root=2)
    assert all_ranks.wrong_of(1, 1) > COUNT // 2
    assert all_ranks.wrong_of(0, 1) == 0
    all_ranks = AllRanks("gather", None, placement, dtype="int32").run(root=2)
    assert all_ranks.wrong_of(1, 1) > COUNT
    assert all_ranks.wrong_of(2, 1) == 0


@pytest.mark.parametrize("name", [name for name, row in COLLECTIVES.items() if row.reduces])
def test_a_second_call_in_place_is_wrong_until_the_input_is_restored(name: str) -> None:
    all_ranks = AllRanks(name, RedOp.SUM, Placement.IN_PLACE).run()
    all_ranks.run()
    assert all(all_ranks.wrong()[rank] > 0 for rank in all_ranks.checked)
    for buffers in all_ranks.ranks:
        buffers.restore(2)
    assert all_ranks.run().wrong() == [0, 0, 0]


def test_a_long_output_is_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers_module, "_COMPARED", 10)
    all_ranks = AllRanks("broadcast", None, Placement.OUT_OF_PLACE).run()
    all_ranks.bits(0)[COUNT - 1] ^= 1
    all_ranks.bits(0)[10] ^= 1
    assert all_ranks.wrong() == [2, 0, 0]


@pytest.mark.parametrize("dtype", [name for name, dtype in DTYPES.items() if dtype.is_float])
def test_a_float_average_may_differ_by_the_tolerance_and_no_more(dtype: str) -> None:
    all_ranks = AllRanks("all_reduce", RedOp.AVG, Placement.OUT_OF_PLACE, dtype=dtype).run()
    tolerance = all_ranks.ranks[0].tolerance_ulp
    assert tolerance == 5
    all_ranks.bits(0)[3] += tolerance
    all_ranks.bits(1)[3] -= tolerance
    assert all_ranks.wrong() == [0, 0, 0]
    all_ranks.bits(0)[3] += 1
    all_ranks.bits(1)[3] -= 1
    assert all_ranks.wrong() == [1, 1, 0]


@pytest.mark.parametrize("planted", [float("nan"), float("inf"), -1.0, 0.0])
@pytest.mark.parametrize("dtype", [name for name, dtype in DTYPES.items() if dtype.is_float])
def test_no_tolerance_covers_a_value_that_is_no_average(dtype: str, planted: float) -> None:
    all_ranks = AllRanks("all_reduce", RedOp.AVG, Placement.OUT_OF_PLACE, dtype=dtype).run()
    output = all_ranks.outputs[2][0]
    output[3] = torch.tensor(planted).to(output.dtype)  # torch 2.5 fills no float8 tensor
    assert all_ranks.wrong() == [0, 0, 1]


@pytest.mark.parametrize(("name", "redop", "placement"), SUMS)
def test_a_call_that_did_nothing_is_told_from_one_that_wrote_one_element(
    name: str, redop: RedOp | None, placement: Placement
) -> None:
    ranks = AllRanks(name, redop, placement)
    assert [buffers.is_unchanged(placement) for buffers in ranks.ranks] == [True] * 3
    # Only the root of a broadcast has its result already. Where a rank has no result, none is wrong.
    right = {rank for rank, buffers in enumerate(ranks.ranks) if buffers.is_right(placement)}
    assert right & {*ranks.checked} <= ({ranks.case.root} if ranks.case.row.rooted else set())
    for buffers in ranks.ranks:
        source, output = buffers.pair(0, placement)
        written = (source if output is None else output).view(BITS[source.dtype.itemsize])
        written[-1] = written[-1] - 1
    assert [buffers.is_unchanged(placement) for buffers in ranks.ranks] == [False] * 3
    ranks = AllRanks(name, redop, placement).run()
    written_in_place = placement is not Placement.RETURNED
    assert all(buffers.is_right(placement) for buffers in ranks.ranks) is written_in_place or ranks.checked == [1]
