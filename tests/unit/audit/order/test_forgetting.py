"""The order forgets what everything follows, and needs no more memory for more steps of the same program."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nccl_bench.audit.order import order as order_module
from nccl_bench.audit.order.actions import Action, EventRecorded, HostWaited, StreamWaited
from nccl_bench.audit.order.order import Order
from nccl_bench.audit.order.places import ByteRange, Stream
from tests.support.order_actions import (
    COLLECTIVE,
    CONSUMER,
    FORK,
    JOIN,
    MAIN,
    OUTPUT,
    PRODUCER,
    host_reads,
    launched,
)


def test_forgetting_changes_no_race() -> None:
    order = Order()
    for action in (PRODUCER, HostWaited(thread=1, device=0), COLLECTIVE):
        order.take(action)
        order.forget()
    (race,) = order.take(CONSUMER)
    assert race.first.work.name == "all_reduce"


def test_memory_is_bounded_if_the_host_waits_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_module, "FORGET_EVERY", 100)

    def steps(count: int) -> Iterator[Action]:
        for step in range(count):
            # New addresses, a new event and a new stream in each step.
            memory = ByteRange(address=step * 64, length=64)
            stream = Stream(device=0, handle=step + 1)
            yield launched("mul", MAIN, writes=[memory])
            yield EventRecorded(thread=1, event=step, stream=MAIN)
            yield StreamWaited(thread=1, event=step, stream=stream)
            yield launched("all_reduce", stream, reads=[memory])
            yield HostWaited(thread=1, stream=stream)

    def size(count: int) -> int:
        order = Order()
        for action in steps(count):
            order.take(action)
        return order.size

    assert size(2000) <= size(200) < 1000


def test_a_loop_without_a_wait_of_the_host_keeps_the_newest_accesses_only() -> None:
    order = Order()
    for _ in range(100):
        for action in (PRODUCER, *FORK, COLLECTIVE, *JOIN, CONSUMER):
            order.take(action)
    assert order.size < 20


def test_accesses_are_not_forgotten_before_every_thread_follows_them() -> None:
    order = Order()
    for action in (COLLECTIVE, *JOIN):
        order.take(action)
    order.forget()
    assert len(order.take(host_reads(OUTPUT))) == 1
