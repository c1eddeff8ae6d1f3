"""Which accesses the order calls a race."""

from __future__ import annotations

from nccl_bench.audit.order.actions import (
    Action,
    EventRecorded,
    HostAccessed,
    HostWaited,
    StreamWaited,
    Work,
    WorkLaunched,
)
from nccl_bench.audit.order.order import Order
from nccl_bench.audit.order.places import ByteRange, Stream, StreamKind
from nccl_bench.audit.order.races import Missing, Race, RaceKind

MAIN = Stream(device=0, handle=0, kind=StreamKind.LEGACY_DEFAULT)
SIDE = Stream(device=0, handle=7)
INPUT = ByteRange(address=1000, length=64)
OUTPUT = ByteRange(address=2000, length=64)


def launched(
    name: str, stream: Stream, reads: tuple[ByteRange, ...] = (), writes: tuple[ByteRange, ...] = ()
) -> WorkLaunched:
    work = Work(name=name, is_collective=name == "all_reduce", where=name)
    return WorkLaunched(thread=1, stream=stream, work=work, reads=reads, writes=writes)


def wait_stream(waiting: Stream, awaited: Stream) -> tuple[Action, Action]:
    return (
        EventRecorded(thread=1, event=5, stream=awaited),
        StreamWaited(thread=1, stream=waiting, event=5),
    )


PRODUCER = launched("mul", MAIN, writes=(INPUT,))
COLLECTIVE = launched("all_reduce", SIDE, reads=(INPUT,), writes=(OUTPUT,))
CONSUMER = launched("copy", MAIN, reads=(OUTPUT,))
FORK = wait_stream(SIDE, MAIN)
JOIN = wait_stream(MAIN, SIDE)


def races(*actions: Action) -> list[Race]:
    order = Order()
    for action in actions:
        order.take(action)
    return list(order.races)


def names(*actions: Action) -> list[tuple[str, str, Missing]]:
    return [(race.first.work.name, race.second.work.name, race.missing) for race in races(*actions)]


def test_fork_and_join_order_a_collective() -> None:
    assert races(PRODUCER, *FORK, COLLECTIVE, *JOIN, CONSUMER) == []


def test_a_missing_fork_is_a_race_with_the_producer() -> None:
    assert names(PRODUCER, COLLECTIVE, *JOIN, CONSUMER) == [("mul", "all_reduce", Missing.FORK)]


def test_a_missing_join_is_a_race_with_the_consumer() -> None:
    assert names(PRODUCER, *FORK, COLLECTIVE, CONSUMER) == [("all_reduce", "copy", Missing.JOIN)]


def test_a_host_wait_orders_what_comes_later() -> None:
    assert (
        races(PRODUCER, HostWaited(thread=1, stream=MAIN), COLLECTIVE, HostWaited(thread=1, device=0), CONSUMER) == []
    )


def test_the_host_must_wait_before_it_reads_the_output_of_a_copy() -> None:
    read = HostAccessed(thread=1, work=Work(name="item"), reads=(OUTPUT,))
    (race,) = races(PRODUCER, *FORK, COLLECTIVE, read)
    assert (race.kind, race.missing) == (RaceKind.HOST_SPEED, Missing.HOST_WAIT)


def test_a_race_that_comes_again_is_counted() -> None:
    (race,) = races(*(PRODUCER, *FORK, COLLECTIVE, CONSUMER, *JOIN) * 3)
    assert race.count == 3
