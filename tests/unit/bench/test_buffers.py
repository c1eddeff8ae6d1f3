"""The buffers of a case: their memory, their slots, and the values with which they are filled."""

from __future__ import annotations

import pytest
import torch

from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.plan.memory import Arena
from tests.support.all_ranks import COUNT, CPU, SUMS, AllRanks


@pytest.mark.parametrize(("name", "redop", "placement"), SUMS)
def test_input_and_output_share_memory_in_place_as_in_nccl_tests(
    name: str, redop: RedOp | None, placement: Placement
) -> None:
    for rank, buffers in enumerate(AllRanks(name, redop, placement).ranks):
        own = sum(COLLECTIVES[name].block_counts(COUNT, 3)[:rank])
        source, target = buffers.pair(1, placement)
        if placement is Placement.RETURNED:
            assert target is None
            continue
        assert target is not None
        if placement is Placement.OUT_OF_PLACE:
            assert source.untyped_storage() is not target
            span = range(target.data_ptr(), target.data_ptr() + target.nbytes)
            assert source.data_ptr() not in span
            assert source.data_ptr() + source.nbytes - 1 not in span
        elif len(source) == len(target):
            assert source is target
        elif len(target) > len(source):
            assert source.data_ptr() == target[own:].data_ptr()
        else:
            assert target.data_ptr() == source[own:].data_ptr()


@pytest.mark.parametrize(("name", "redop", "placement"), SUMS)
def test_every_slot_holds_its_input_from_the_start(
    name: str, redop: RedOp | None, placement: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "empty", torch.zeros)  # fresh memory often holds zeros
    case = AllRanks(name, redop, placement).case
    buffers = CaseBuffers(case, Arena(slots=3, slot_bytes=512, regions=2), 1, 3, CPU)
    assert all(bool((buffers.input(slot) > 0).all()) for slot in range(3))


def test_calls_rotate_through_the_slots() -> None:
    buffers = AllRanks("all_reduce", RedOp.SUM, Placement.OUT_OF_PLACE, slots=3).ranks[0]
    addresses = [buffers.input(slot).data_ptr() for slot in range(7)]
    assert addresses[:3] == addresses[3:6]
    assert addresses[6] == addresses[0]
    assert len(set(addresses)) == 3
    outputs = (buffers.pair(slot, Placement.OUT_OF_PLACE)[1] for slot in range(7))
    assert len({output.data_ptr() for output in outputs if output is not None} | set(addresses)) == 6


def test_every_slot_is_aligned() -> None:
    buffers = AllRanks("all_reduce", RedOp.SUM, Placement.OUT_OF_PLACE, count=3, slots=4).ranks[0]
    base = buffers.input(0).data_ptr()
    assert {(buffers.input(slot).data_ptr() - base) % 512 for slot in range(4)} == {0}
    assert (buffers.outputs(1, Placement.OUT_OF_PLACE)[0].data_ptr() - base) % 512 == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_poison_is_nan_or_a_value_that_no_table_has(dtype: str) -> None:
    output = AllRanks("all_gather", None, Placement.OUT_OF_PLACE, dtype=dtype).outputs[0][0]
    assert bool(output.double().isnan().all()) if DTYPES[dtype].is_float else set(output.tolist()) <= {-1, 255}


# A slot of 16 elements consists of whole words of 8 bytes, one of 13 does not.
@pytest.mark.parametrize("count", [16, 13])
def test_poison_and_restore_change_the_first_slots_only(count: int) -> None:
    (buffers,) = AllRanks("all_reduce", RedOp.SUM, Placement.OUT_OF_PLACE, ranks=1, slots=3, count=count).run().ranks
    for slot in range(3):
        buffers.input(slot).zero_()
    buffers.poison(2, Placement.OUT_OF_PLACE)
    outputs = buffers.outputs(3, Placement.OUT_OF_PLACE)
    assert [bool(output.isnan().all()) for output in outputs] == [True, True, False]
    assert [bool((buffers.input(slot) > 0).all()) for slot in range(3)] == [True, True, False]
    assert (buffers.wrong(outputs[:2]), buffers.wrong(outputs)) == (2 * count, 2 * count)


def test_more_calls_than_slots_restore_and_poison_every_slot() -> None:
    (buffers,) = AllRanks("all_reduce", RedOp.SUM, Placement.OUT_OF_PLACE, ranks=1).ranks
    for slot in range(2):
        buffers.input(slot).zero_()
    buffers.restore(100)
    assert all(bool((buffers.input(slot) > 0).all()) for slot in range(2))
    assert buffers.wrong(buffers.outputs(100, Placement.OUT_OF_PLACE)) == 2 * COUNT


def test_poison_keeps_an_in_place_input() -> None:
    for rank, buffers in enumerate(AllRanks("all_gather", None, Placement.IN_PLACE).ranks):
        (output,) = buffers.outputs(1, Placement.IN_PLACE)
        own = slice(rank * COUNT, (rank + 1) * COUNT)
        assert not bool(output[own].isnan().any())
        assert int(output.isnan().sum()) == 2 * COUNT
        assert buffers.wrong([output]) == 2 * COUNT


def test_arms_in_place_and_out_of_place_read_the_same_inputs_and_have_outputs_of_their_own() -> None:
    case = AllRanks("all_gather", None, Placement.IN_PLACE, ranks=2).case
    arena = Arena(slots=2, slot_bytes=512, regions=2)
    buffers = CaseBuffers(case, arena, 1, 2, CPU, placements=tuple(Placement))
    (source, inside), (other, outside), (third, nothing) = (buffers.pair(1, placement) for placement in Placement)
    assert source.data_ptr() == other.data_ptr() == third.data_ptr()
    assert nothing is None
    assert inside is not None
    assert outside is not None
    assert source.data_ptr() == inside[COUNT:].data_ptr()
    outside.copy_(torch.cat([source, source]))
    assert bool((inside[COUNT:] == source).all())


def test_poison_fills_the_results_that_a_graph_writes_again() -> None:
    (buffers,) = AllRanks("all_reduce", RedOp.SUM, Placement.RETURNED, ranks=1).ranks
    results = [buffers.input(0).clone(), buffers.input(1).clone()]
    assert buffers.wrong(results) == 0
    buffers.poison(2, Placement.RETURNED, results)
    assert buffers.wrong(results) == 2 * COUNT
