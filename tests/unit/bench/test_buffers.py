"""The check, on the buffers of every rank in one process: right results pass, and planted errors are found."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from nccl_bench.bench import buffers as buffers_module
from nccl_bench.bench import values
from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.config.run import resolve
from nccl_bench.plan.memory import WORKSPACE_BYTES, Arena, plan_arena

CPU = torch.device("cpu")
COUNT = 37
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
KINDS = [
    (name, redop, placement)
    for name, row in COLLECTIVES.items()
    for redop in (tuple(RedOp) if row.reduces else (None,))
    for placement in row.placements
]
SUMS = [kind for kind in KINDS if kind[1] in (None, RedOp.SUM)]
REDUCTIONS = list(dict.fromkeys((name, redop) for name, redop, _ in KINDS))


class AllRanks:
    """The buffers of one case on every rank, poisoned and ready for a call."""

    def __init__(
        self,
        collective: str,
        redop: RedOp | None,
        placement: Placement,
        *,
        dtype: str = "bfloat16",
        ranks: int = 3,
        count: int = COUNT,
        slots: int = 2,
        root: int = 1,
    ) -> None:
        row = COLLECTIVES[collective]
        self.case = Case(
            scenario=Scenario.ISOLATED,
            collective=collective,
            dtype=dtype,
            redop=redop,
            placement=placement,
            root=min(root, ranks - 1) if row.rooted else None,
            size_bytes=row.size_bytes(count, DTYPES[dtype].itemsize, ranks),
            count=count,
        )
        room = WORKSPACE_BYTES + 64 * 1024**2
        arena = plan_arena(resolve("cpu", {}), self.case, ranks, room)
        assert arena is not None
        self.ranks = [CaseBuffers(self.case, replace(arena, slots=slots), rank, ranks, CPU) for rank in range(ranks)]
        self.slots = slots
        for buffers in self.ranks:
            buffers.poison(slots, placement)
        receive = row.receive_count(count, ranks)
        # The outputs of each rank, by slot. Returned outputs are tensors of a user's call.
        self.outputs = [
            [torch.empty(receive, dtype=buffers.input(0).dtype) for _ in range(slots)]
            if placement is Placement.RETURNED
            else buffers.outputs(slots, placement)
            for buffers in self.ranks
        ]
        if placement is Placement.RETURNED:
            # New memory can hold right values that an earlier test has left there.
            for buffers, outputs in zip(self.ranks, self.outputs, strict=True):
                buffers.poison(slots, placement, outputs)

    def run(
        self, change: Callable[[list[Tensor]], list[Tensor]] = lambda inputs: inputs, *, root: int | None = None
    ) -> AllRanks:
        """Do the collective in every slot, with changed inputs or another root."""
        case = self.case if root is None else replace(self.case, root=root)
        for slot in range(self.slots):
            inputs = [buffers.input(slot).clone() for buffers in self.ranks]
            collective(case, change(inputs), [outputs[slot] for outputs in self.outputs])
        return self

    def wrong(self) -> list[int]:
        return [self.wrong_of(rank, self.slots) for rank in range(len(self.ranks))]

    def wrong_of(self, rank: int, slots: int) -> int:
        """Return the number of wrong elements in the first slots of a rank."""
        return self.ranks[rank].wrong(self.outputs[rank][:slots])

    def bits(self, rank: int, slot: int = 0) -> Tensor:
        """Return the output of a rank as integers, to plant an error in."""
        output = self.outputs[rank][slot]
        return output.view(BITS[output.dtype.itemsize])

    @property
    def checked(self) -> list[int]:
        """The ranks whose output is defined."""
        return [self.case.root or 0] if self.case.row.result_at_root else list(range(len(self.ranks)))


def collective(case: Case, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """Do the collective as it is defined."""
    ranks, root = range(len(inputs)), case.root or 0
    ends = [0, *itertools.accumulate(case.row.block_counts(case.count, len(inputs)))]
    for rank in ranks:
        block = slice(ends[rank], ends[rank + 1])
        if case.collective == "all_reduce":
            outputs[rank].copy_(reduced(inputs, case.redop))
        elif case.collective in ("all_gather", "all_gatherv"):
            outputs[rank].copy_(torch.cat(list(inputs)))
        elif case.collective in ("reduce_scatter", "reduce_scatterv"):
            outputs[rank].copy_(reduced([x[block] for x in inputs], case.redop))
        elif case.collective == "all_to_all":
            outputs[rank].copy_(torch.cat([x[block] for x in inputs]))
        elif case.collective == "broadcast":
            outputs[rank].copy_(inputs[root])
        elif case.collective == "send_recv":
            outputs[rank].copy_(inputs[rank - 1])
        elif case.collective == "gather" and rank == root:
            outputs[rank].copy_(torch.cat(list(inputs)))
        elif case.collective == "reduce" and rank == root:
            outputs[rank].copy_(reduced(inputs, case.redop))


def reduced(inputs: Sequence[Tensor], redop: RedOp | None) -> Tensor:
    """Return the exact reduction, rounded once."""
    dtype = inputs[0].dtype
    stack = torch.stack([x.to(torch.float64 if dtype.is_floating_point else torch.int64) for x in inputs])
    if redop is RedOp.SUM:
        return stack.sum(0).to(dtype)
    if redop is RedOp.PROD:
        return stack.prod(0).to(dtype)
    if redop is RedOp.MIN:
        return stack.amin(0).to(dtype)
    if redop is RedOp.MAX:
        return stack.amax(0).to(dtype)
    total = stack.sum(0)
    return (total / len(inputs) if dtype.is_floating_point else total // len(inputs)).to(dtype)


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


def test_poison_and_restore_change_the_first_slots_only() -> None:
    (buffers,) = AllRanks("all_reduce", RedOp.SUM, Placement.OUT_OF_PLACE, ranks=1, slots=3).run().ranks
    for slot in range(3):
        buffers.input(slot).zero_()
    buffers.poison(2, Placement.OUT_OF_PLACE)
    outputs = buffers.outputs(3, Placement.OUT_OF_PLACE)
    assert [bool(output.isnan().all()) for output in outputs] == [True, True, False]
    assert [bool((buffers.input(slot) > 0).all()) for slot in range(3)] == [True, True, False]
    assert (buffers.wrong(outputs[:2]), buffers.wrong(outputs)) == (2 * COUNT, 2 * COUNT)


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
