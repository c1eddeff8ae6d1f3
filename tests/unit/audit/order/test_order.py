"""Races between accesses of streams and of the host, and the wait that is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nccl_bench.audit.order.actions import (
    Action,
    EventDestroyed,
    EventRecorded,
    HostWaited,
    StreamDestroyed,
    StreamWaited,
)
from nccl_bench.audit.order.order import Order
from nccl_bench.audit.order.places import ByteRange
from nccl_bench.audit.order.races import AccessMode, Missing, RaceKind
from tests.support.order_actions import (
    BLOCKING,
    COLLECTIVE,
    CONSUMER,
    FORK,
    INLINE,
    INPUT,
    JOIN,
    MAIN,
    OUTPUT,
    PRODUCER,
    SIDE,
    THIRD,
    host_reads,
    launched,
    names,
    races,
    waits,
)

FORKED = (PRODUCER, *FORK, COLLECTIVE)
NO_RACE: dict[str, tuple[Action, ...]] = {
    "fork and join": (*FORKED, *JOIN, CONSUMER),
    "one stream": (PRODUCER, replace(COLLECTIVE, stream=MAIN), CONSUMER),
    "an order through a third stream": (PRODUCER, *waits(THIRD, MAIN), *waits(SIDE, THIRD), COLLECTIVE),
    "the host waits for a stream": (*FORKED, HostWaited(thread=1, stream=SIDE), CONSUMER),
    "the host waits for the device": (*FORKED, HostWaited(thread=1, device=0), CONSUMER),
    "a query of an event returns True": (*FORKED, JOIN[0], HostWaited(thread=1, event=5), CONSUMER),
    "neighbouring slices": (
        launched("mul", MAIN, writes=[ByteRange(address=0, length=64)]),
        launched("all_reduce", SIDE, writes=[ByteRange(address=64, length=64)]),
    ),
    "two reads": (launched("mul", MAIN, reads=[INPUT]), launched("all_reduce", SIDE, reads=[INPUT])),
    "two collectives of one communicator": (
        launched("all_reduce", SIDE, writes=[OUTPUT], communicator=3),
        launched("all_reduce", THIRD, writes=[OUTPUT], communicator=3),
    ),
    "an event of a recording that was replaced": (
        *(PRODUCER, EventRecorded(thread=1, event=1, stream=MAIN), StreamWaited(thread=1, event=1, stream=SIDE)),
        *(EventRecorded(thread=1, event=1, stream=THIRD), COLLECTIVE),
    ),
    "the default stream waits for a blocking stream": (replace(COLLECTIVE, stream=BLOCKING), CONSUMER),
    "a blocking stream waits for the default stream": (PRODUCER, replace(COLLECTIVE, stream=BLOCKING)),
    "work that the host runs itself": (launched("mul", INLINE, writes=[INPUT]), COLLECTIVE),
    "the CPU's default stream waits": (COLLECTIVE, *waits(INLINE, SIDE), launched("copy", INLINE, reads=[OUTPUT])),
}


@pytest.mark.parametrize("program", NO_RACE)
def test_nothing_races_in(program: str) -> None:
    assert names(*NO_RACE[program]) == []


# A program, and the race with the missing wait.
ONE_RACE: dict[str, tuple[tuple[Action, ...], tuple[str, str, Missing]]] = {
    "no fork": ((PRODUCER, COLLECTIVE, *JOIN, CONSUMER), ("mul", "all_reduce", Missing.FORK)),
    "no join": ((*FORKED, CONSUMER), ("all_reduce", "copy", Missing.JOIN)),
    "a join of the wrong stream": ((*FORKED, *waits(THIRD, SIDE), CONSUMER), ("all_reduce", "copy", Missing.JOIN)),
    "a fork before the write": ((*FORK, PRODUCER, COLLECTIVE), ("mul", "all_reduce", Missing.FORK)),
    "an event that was destroyed": (
        (PRODUCER, FORK[0], EventDestroyed(event=5), FORK[1], COLLECTIVE),
        ("mul", "all_reduce", Missing.FORK),
    ),
    "an output that a third stream reads": (
        (*FORKED, *JOIN, launched("copy", THIRD, reads=[OUTPUT])),
        ("all_reduce", "copy", Missing.JOIN),
    ),
    "a slice that overlaps": (
        (
            launched("mul", MAIN, writes=[ByteRange(address=0, length=64)]),
            launched("all_reduce", SIDE, writes=[ByteRange(address=63, length=64)]),
        ),
        ("mul", "all_reduce", Missing.FORK),
    ),
    "a write over the input": (
        (*FORKED, launched("zero_", MAIN, writes=[INPUT])),
        ("all_reduce", "zero_", Missing.JOIN),
    ),
    "two side streams": (
        (launched("add", THIRD, writes=[OUTPUT]), launched("copy", SIDE, reads=[OUTPUT])),
        ("add", "copy", Missing.WAIT),
    ),
    "work of a main and a side stream": (
        (launched("add", MAIN, writes=[OUTPUT]), launched("copy", SIDE, reads=[OUTPUT])),
        ("add", "copy", Missing.FORK),
    ),
    "a stream that took the handle of another one": (
        (
            launched("add", SIDE, writes=[OUTPUT]),
            StreamDestroyed(stream=SIDE),
            launched("copy", SIDE, reads=[OUTPUT]),
        ),
        ("add", "copy", Missing.WAIT),
    ),
}


@pytest.mark.parametrize("program", ONE_RACE)
def test_there_is_a_race_in(program: str) -> None:
    actions, race = ONE_RACE[program]
    assert names(*actions) == [race]


def test_a_race_names_both_accesses_and_their_bytes() -> None:
    (race,) = races(PRODUCER, launched("all_reduce", SIDE, writes=[ByteRange(address=1032, length=64)]))
    assert (race.first.work.where, race.first.stream, race.first.mode) == ("line of mul", MAIN, AccessMode.WRITE)
    assert (race.second.work.where, race.second.stream) == ("line of all_reduce", SIDE)
    assert race.overlap == ByteRange(address=1032, length=32)
    assert race.kind is RaceKind.KERNELS


def test_an_event_that_was_recorded_again_marks_the_new_place_only() -> None:
    again = EventRecorded(thread=1, event=5, stream=THIRD)
    assert names(*FORKED, JOIN[0], again, JOIN[1], CONSUMER) == [("all_reduce", "copy", Missing.JOIN)]


def test_a_non_blocking_stream_is_not_ordered_with_the_default_stream() -> None:
    assert len(races(PRODUCER, COLLECTIVE, CONSUMER)) == 2


def test_the_host_must_wait_before_it_reads_the_output_of_a_copy() -> None:
    (race,) = races(*FORKED, host_reads(OUTPUT))
    assert (race.kind, race.missing) == (RaceKind.HOST_SPEED, Missing.HOST_WAIT)


def test_a_race_that_comes_again_is_counted() -> None:
    order = Order()
    new = [order.take(action) for _ in range(3) for action in (*FORKED, CONSUMER, *JOIN)]
    assert sum(map(len, new)) == 1
    assert [race.count for race in order.races] == [3]


def test_a_forgotten_wait_is_reported_once_for_all_the_work_that_it_would_order() -> None:
    later = [launched(f"copy {number}", MAIN, reads=[OUTPUT]) for number in range(3)]
    inputs = [
        launched(f"mul {number}", MAIN, writes=[ByteRange(address=1000 + number, length=1)]) for number in range(3)
    ]
    assert [pair[:2] for pair in names(*inputs, COLLECTIVE, *later)] == [
        ("mul 2", "all_reduce"),
        ("all_reduce", "copy 0"),
    ]


def test_every_pair_is_reported_on_request() -> None:
    order = Order(every_pair=True)
    for action in (*FORKED, CONSUMER, replace(CONSUMER, work=replace(CONSUMER.work, name="add"))):
        order.take(action)
    assert len(order.races) == 2
