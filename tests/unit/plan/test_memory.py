"""The arenas of a plan: their slots, their size, and what fits into the memory."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.config.run import resolve
from nccl_bench.plan.batches import LAUNCH_QUEUE_ENTRIES
from nccl_bench.plan.memory import (
    FEWEST_SLOTS,
    MEMORY_SHARE,
    ROTATED_BYTES,
    WORKSPACE_BYTES,
    plan_arena,
    slots_of_more_arenas,
)

MIB = 1024**2


def case(size_bytes: int, placement: Placement = Placement.IN_PLACE, collective: str = "all_reduce") -> Case:
    row = COLLECTIVES[collective]
    count = row.block_count(size_bytes, 2, 4)
    return Case(
        scenario=Scenario.ISOLATED,
        collective=collective,
        dtype="bfloat16",
        redop=RedOp.SUM if row.reduces else None,
        placement=placement,
        root=0 if row.rooted else None,
        size_bytes=row.size_bytes(count, 2, 4),
        count=count,
    )


def test_the_arena_is_larger_than_a_cache_and_not_larger_than_needed() -> None:
    config = resolve("cuda")
    arena = plan_arena(config, case(8 * MIB), 4, 10**12)
    assert arena is not None
    assert (arena.slots, arena.slot_bytes, arena.regions) == (32, 8 * MIB, 1)
    assert arena.total_bytes == (32 + 2) * 8 * MIB + WORKSPACE_BYTES
    out_of_place = plan_arena(config, case(8 * MIB, Placement.OUT_OF_PLACE), 4, 10**12)
    assert out_of_place is not None
    assert (out_of_place.slots, out_of_place.regions) == (32, 2)


@pytest.mark.parametrize(
    ("size_bytes", "slots"),
    [(8, LAUNCH_QUEUE_ENTRIES), (512 * 1024, LAUNCH_QUEUE_ENTRIES), (64 * MIB, 4), (128 * MIB, 4), (1024 * MIB, 4)],
)
def test_small_operations_have_a_limit_of_slots_and_large_operations_still_rotate(size_bytes: int, slots: int) -> None:
    arena = plan_arena(resolve("cuda"), case(size_bytes), 4, 10**12)
    assert arena is not None
    assert arena.slots == slots
    if slots > FEWEST_SLOTS:
        assert arena.slots * arena.slot_bytes <= ROTATED_BYTES


def test_a_slot_fits_the_larger_of_input_and_output_and_is_aligned() -> None:
    for collective, size_bytes, slot_bytes in itertools.chain(
        ((name, 64, 512) for name in COLLECTIVES),
        ((name, 1000 * 64, 125 * 512) for name in COLLECTIVES),
    ):
        placement = COLLECTIVES[collective].placements[-1]
        arena = plan_arena(resolve("cuda"), case(size_bytes, placement, collective), 4, 10**12)
        assert arena is not None
        assert arena.slot_bytes == slot_bytes


@pytest.mark.parametrize(
    ("spare_slots", "placement", "slots"),
    [
        (40, Placement.IN_PLACE, 32),
        (5, Placement.IN_PLACE, 3),
        (3, Placement.IN_PLACE, 1),
        (2, Placement.IN_PLACE, None),
        (6, Placement.OUT_OF_PLACE, 2),
        (5, Placement.OUT_OF_PLACE, 1),
        (3, Placement.OUT_OF_PLACE, None),
        (0, Placement.IN_PLACE, None),
    ],
)
def test_less_memory_means_fewer_slots_and_finally_no_arena(
    spare_slots: int, placement: Placement, slots: int | None
) -> None:
    budget = WORKSPACE_BYTES + spare_slots * 8 * MIB + 100
    arena = plan_arena(resolve("cuda"), case(8 * MIB, placement), 4, int(budget / MEMORY_SHARE))
    assert (arena.slots if arena else None) == slots


@given(st.integers(1, 2**34), st.integers(0, 2**36), st.sampled_from(tuple(Placement)), st.booleans())
def test_an_arena_always_fits_its_budget(size: int, budget: int, placement: Placement, same_buffer: bool) -> None:
    what = case(size + 2, placement)
    arena = plan_arena(resolve("cuda", {"same_buffer": same_buffer}), what, 4, budget)
    if arena is None:
        smallest = plan_arena(resolve("cuda", {"same_buffer": True}), what, 4, 2**62)
        assert smallest is not None
        assert smallest.total_bytes > budget * MEMORY_SHARE - 1
    else:
        assert arena.total_bytes <= budget * MEMORY_SHARE
        assert arena.slots >= 1
        assert not same_buffer or arena.slots == 1


@pytest.mark.parametrize(("spare_slots", "slots"), [(1000, 32), (12, 2), (11, 1), (8, 1), (7, 0), (0, 0)])
def test_more_arenas_share_the_memory_that_is_free(spare_slots: int, slots: int) -> None:
    arena = plan_arena(resolve("cuda"), case(8 * MIB, Placement.OUT_OF_PLACE), 4, 10**12)
    assert arena is not None
    # Each of two arenas has two regions, a copy of the input and the expected output.
    budget = WORKSPACE_BYTES + spare_slots * 8 * MIB + 100
    assert slots_of_more_arenas(arena, 2, int(budget / MEMORY_SHARE)) == slots


def test_the_same_buffer_is_one_slot() -> None:
    arena = plan_arena(resolve("cuda", {"same_buffer": True}), case(8), 4, 10**12)
    assert arena is not None
    assert arena.slots == 1


def test_returned_results_count_for_the_memory() -> None:
    arenas = [
        plan_arena(resolve("cuda"), case(8 * MIB), 4, 10**12, placements)
        for placements in ([Placement.IN_PLACE], [Placement.IN_PLACE, Placement.RETURNED], [*Placement])
    ]
    assert [arena and (arena.regions, arena.results) for arena in arenas] == [(1, 0), (1, 6), (2, 6)]
    in_place, returned, _ = (arena.total_bytes for arena in arenas if arena)
    assert returned - in_place == 6 * 8 * MIB
