"""Races that the caching allocator makes: memory handed out while another stream may still use it."""

from __future__ import annotations

import pytest

from nccl_bench.audit.order.actions import Action, HostWaited, StreamOfMemoryRecorded
from nccl_bench.audit.order.places import ByteRange, Stream, StreamKind
from nccl_bench.audit.order.races import AccessMode, Missing, RaceKind
from tests.support.order_actions import COLLECTIVE, INPUT, JOIN, MAIN, SIDE, allocated, freed, launched, races, waits

NEW = ByteRange(address=5000, length=64)
LARGE = ByteRange(address=1 << 30, length=2 << 20)
# Memory of the main stream, used on the side stream and freed without `record_stream`.
USED: tuple[Action, ...] = (allocated(INPUT, MAIN), *waits(SIDE, MAIN), COLLECTIVE, freed(INPUT))
RECORD = StreamOfMemoryRecorded(address=INPUT.address, stream=SIDE)


@pytest.mark.parametrize("memory", [INPUT, NEW, ByteRange(address=1032, length=8)])
def test_memory_that_a_side_stream_uses_can_be_handed_out_without_record_stream(memory: ByteRange) -> None:
    # It is the same race whether the allocator chose this block or another one.
    (race,) = races(*USED, allocated(memory, MAIN))
    assert (race.kind, race.missing) == (RaceKind.MEMORY, Missing.RECORD_STREAM)
    assert (race.first.work.name, race.second.mode) == ("all_reduce", AccessMode.HAND_OUT)
    assert race.freed == "line of del"


@pytest.mark.parametrize("wait", [JOIN, (HostWaited(thread=1, stream=SIDE),)])
def test_a_wait_before_the_next_allocation_makes_up_for_record_stream(wait: tuple[Action, ...]) -> None:
    assert races(*USED, *wait, allocated(INPUT, MAIN)) == ()


def test_record_stream_keeps_memory_from_being_handed_out() -> None:
    write = launched("mul", MAIN, writes=[INPUT])
    assert races(*USED[:-1], RECORD, freed(INPUT), allocated(INPUT, MAIN), write) == ()


def test_record_stream_of_another_stream_does_not_help() -> None:
    other = StreamOfMemoryRecorded(address=INPUT.address, stream=MAIN)
    assert len(races(*USED[:-1], other, freed(INPUT), allocated(INPUT, MAIN))) == 1


def test_record_stream_of_the_stream_of_the_allocation_changes_nothing() -> None:
    # torch's allocator ignores such a call, so the block is handed out while its own stream still reads it.
    read, own = launched("mul", MAIN, reads=[INPUT]), StreamOfMemoryRecorded(address=INPUT.address, stream=MAIN)
    uses, next_write = (*USED[:-1], read, RECORD), launched("fill", SIDE, writes=[INPUT])
    for recorded in ((), (own,)):
        (race,) = races(*uses, *recorded, freed(INPUT), allocated(INPUT, MAIN), next_write)
        assert (race.kind, race.first.work.name) == (RaceKind.MEMORY, "mul")


def test_record_stream_of_the_default_stream_waits_for_the_streams_that_it_blocks() -> None:
    default = Stream(device=0, handle=0, kind=StreamKind.LEGACY_DEFAULT)
    blocking = Stream(device=0, handle=9, kind=StreamKind.BLOCKING)
    uses = (allocated(INPUT, blocking), launched("mul", blocking, writes=[INPUT]))
    after = (freed(INPUT), allocated(INPUT, blocking), launched("fill", SIDE, writes=[INPUT]))
    assert len(races(*uses, *after)) == 1
    assert races(*uses, StreamOfMemoryRecorded(address=INPUT.address, stream=default), *after) == ()


@pytest.mark.parametrize("allocation", [allocated(LARGE, MAIN), allocated(NEW, SIDE)])
def test_an_allocation_that_cannot_get_the_block_is_no_race(allocation: Action) -> None:
    assert races(*USED, allocation) == ()


def test_the_next_owner_on_another_stream_must_wait_for_the_stream_of_the_allocation() -> None:
    before = (allocated(INPUT, MAIN), launched("mul", MAIN, writes=[INPUT]), freed(INPUT), allocated(INPUT, MAIN))
    (race,) = races(*before, COLLECTIVE)
    assert (race.kind, race.missing, race.freed) == (RaceKind.MEMORY, Missing.FORK, "line of del")
    assert races(*before, *waits(SIDE, MAIN), COLLECTIVE) == ()


def test_memory_that_was_never_announced_is_freed_without_a_word() -> None:
    assert races(COLLECTIVE, freed(INPUT), allocated(NEW, MAIN)) == ()
