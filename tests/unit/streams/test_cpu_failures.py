"""Failures of work on the CPU's streams: each is raised once, and skips only what it must."""

from __future__ import annotations

import threading
import weakref

import pytest

from nccl_bench.streams import cpu
from tests.support.stream_control import (
    PATIENCE_S,
    Gate,
    PlantedError,
    raise_planted_error,
    stream_threads,
    within_patience,
)

pytestmark = pytest.mark.usefixtures("nothing_left_unreported")


@pytest.mark.parametrize("synchronize", ["stream", "event", "device"])
def test_a_failure_is_raised_once_by_the_next_synchronisation(synchronize: str) -> None:
    stream, event = cpu.Stream(), cpu.Event()
    seen: list[object] = []
    stream.submit(raise_planted_error)
    stream.submit(seen.append, "skipped")
    event.record(stream)
    wait = {"stream": stream.synchronize, "event": event.synchronize, "device": cpu.synchronize}[synchronize]
    with pytest.raises(PlantedError):
        within_patience(wait)
    for again in (stream.synchronize, event.synchronize, cpu.synchronize):
        within_patience(again)
    stream.submit(seen.append, "later")
    stream.synchronize()
    assert seen == ["later"]


def test_work_queued_before_the_report_of_a_failure_is_skipped_even_after_the_report() -> None:
    stream = cpu.Stream()
    seen: list[object] = []
    stream.submit(raise_planted_error)
    event = stream.record_event()
    gated = cpu.Stream()
    gate = Gate(gated)
    stream.wait_stream(gated)
    stream.submit(seen.append, "before the report")
    with pytest.raises(PlantedError):
        event.synchronize()
    stream.submit(seen.append, "after the report")
    gate.open()
    stream.synchronize()
    assert seen == ["after the report"]


def test_an_event_recorded_before_a_failure_does_not_report_it() -> None:
    stream = cpu.Stream()
    event = stream.record_event()
    stream.submit(raise_planted_error)
    done = stream.record_event()
    event.synchronize()
    with pytest.raises(PlantedError):
        done.synchronize()
    event.synchronize()


def test_a_failure_is_reported_after_its_stream_is_gone() -> None:
    before = stream_threads()
    stream = cpu.Stream()
    dropped = weakref.ref(stream)
    stream.submit(raise_planted_error)
    started = stream_threads() - before
    del stream
    for thread in started:
        thread.join(PATIENCE_S)
    assert dropped() is None
    with pytest.raises(PlantedError):
        cpu.synchronize()
    cpu.synchronize()


def test_each_of_several_failures_is_raised() -> None:
    first, second = cpu.Stream(), cpu.Stream()
    first.submit(raise_planted_error)
    second.wait_stream(first)
    second.submit(lambda: 1 // 0)
    with pytest.raises(PlantedError):
        cpu.synchronize()
    with pytest.raises(ZeroDivisionError):
        cpu.synchronize()
    cpu.synchronize()


def test_a_stream_that_waits_for_a_failed_stream_neither_hangs_nor_fails() -> None:
    failed, waiter = cpu.Stream(), cpu.Stream()
    seen: list[object] = []
    failed.submit(raise_planted_error)
    waiter.wait_stream(failed)
    waiter.submit(seen.append, 1)
    within_patience(waiter.synchronize)
    assert seen == [1]
    with pytest.raises(PlantedError):
        cpu.synchronize()


def test_a_failed_stream_still_waits_for_the_streams_before_it() -> None:
    producer, failed, consumer = cpu.Stream(), cpu.Stream(), cpu.Stream()
    seen: list[object] = []
    gate = Gate(producer)
    producer.submit(seen.append, "produced")
    failed.submit(raise_planted_error)
    failed.wait_stream(producer)
    consumer.wait_stream(failed)
    consumer.submit(seen.append, "consumed")
    threading.Timer(0.02, gate.open).start()
    within_patience(consumer.synchronize)
    assert seen == ["produced", "consumed"]
    with pytest.raises(PlantedError):
        failed.synchronize()
