"""The CPU's streams: order, the current stream, and the times of events."""

from __future__ import annotations

import threading
import time

import pytest

from nccl_bench.errors import InvalidArgumentError
from nccl_bench.streams import cpu
from tests.support.stream_control import PATIENCE_S, Gate, PlantedError, raise_planted_error, within_patience

pytestmark = pytest.mark.usefixtures("nothing_left_unreported")


# Order


def test_a_stream_runs_its_entries_in_order() -> None:
    stream = cpu.Stream()
    seen: list[object] = []
    for number in range(200):
        stream.submit(seen.append, number)
    stream.synchronize()
    assert seen == list(range(200))


def test_submit_returns_before_the_work_is_done() -> None:
    stream = cpu.Stream()
    seen: list[object] = []
    gate = Gate(stream)
    stream.submit(seen.append, 1)
    assert gate.arrived.wait(PATIENCE_S)
    assert (seen, stream.query()) == ([], False)
    gate.open()
    stream.synchronize()
    assert (seen, stream.query()) == ([1], True)


def test_a_held_stream_does_not_stop_another() -> None:
    held, free = cpu.Stream(), cpu.Stream()
    seen: list[object] = []
    gate = Gate(held)
    held.submit(seen.append, "held")
    free.submit(seen.append, "free")
    within_patience(free.synchronize)
    assert seen == ["free"]
    gate.open()
    held.synchronize()
    assert seen == ["free", "held"]


def test_an_event_orders_two_streams() -> None:
    producer, consumer = cpu.Stream(), cpu.Stream()
    seen: list[object] = []
    gate = Gate(producer)
    producer.submit(seen.append, "produced")
    consumer.wait_event(producer.record_event())
    consumer.submit(seen.append, "consumed")
    bystander = cpu.Stream()
    bystander.submit(seen.append, "unordered")
    bystander.synchronize()
    assert not consumer.query()
    gate.open()
    consumer.synchronize()
    assert seen == ["unordered", "produced", "consumed"]


def test_wait_stream_waits_for_the_work_queued_so_far() -> None:
    first, second = cpu.Stream(), cpu.Stream()
    seen: list[object] = []
    early = Gate(first)
    first.submit(seen.append, "early")
    second.wait_stream(first)
    late = Gate(first)
    second.submit(seen.append, "after")
    early.open()
    within_patience(second.synchronize)
    assert seen == ["early", "after"]
    late.open()


def test_a_wait_refers_to_the_recording_at_the_time_of_the_call() -> None:
    producer, waiter = cpu.Stream(), cpu.Stream()
    event = cpu.Event()
    first = Gate(producer)
    event.record(producer)
    event.wait(waiter)
    second = Gate(producer)
    event.record(producer)
    assert not waiter.query()
    first.open()
    within_patience(waiter.synchronize)
    assert not event.query()
    event.wait(waiter)
    assert not waiter.query()
    second.open()
    within_patience(waiter.synchronize)
    assert event.query()


def test_waiting_for_an_event_that_was_never_recorded_returns_at_once() -> None:
    event, stream = cpu.Event(), cpu.Stream()
    event.wait(stream)
    within_patience(stream.synchronize)
    within_patience(event.synchronize)
    assert event.query()


def test_synchronize_also_waits_for_work_that_queued_work_submits() -> None:
    first, second = cpu.Stream(), cpu.Stream()
    done: list[str] = []

    def submits() -> None:
        time.sleep(0.05)
        first.submit(sleeps)

    def sleeps() -> None:
        time.sleep(0.05)
        done.append("the last")

    second.submit(submits)
    within_patience(cpu.synchronize)
    assert done == ["the last"]


# The default and the current stream


def test_the_default_stream_runs_inline() -> None:
    seen: list[threading.Thread] = []
    cpu.default_stream().submit(lambda: seen.append(threading.current_thread()))
    assert seen == [threading.current_thread()]
    with pytest.raises(PlantedError):
        cpu.default_stream().submit(raise_planted_error)
    cpu.synchronize()


def test_a_wait_on_the_default_stream_blocks_the_caller() -> None:
    stream = cpu.Stream()
    seen: list[object] = []
    gate = Gate(stream)
    stream.submit(seen.append, 1)
    threading.Timer(0.02, gate.open).start()
    cpu.default_stream().wait_stream(stream)
    assert seen == [1]


def test_stream_blocks_nest_and_restore_the_current_stream_after_an_exception() -> None:
    outer, inner = cpu.Stream(), cpu.Stream()
    with cpu.stream(outer):
        with cpu.stream(inner):
            assert cpu.current_stream() is inner
        with pytest.raises(PlantedError), cpu.stream(inner):
            raise_planted_error()
        assert cpu.current_stream() is outer
    assert cpu.current_stream() is cpu.default_stream()


def test_each_thread_has_its_own_current_stream() -> None:
    seen: list[cpu.Stream] = []
    with cpu.stream(cpu.Stream()):
        thread = threading.Thread(target=lambda: seen.append(cpu.current_stream()))
        thread.start()
        thread.join()
    assert seen == [cpu.default_stream()]


def test_an_entry_sees_its_stream_as_the_current_one() -> None:
    stream = cpu.Stream()
    seen: list[object] = []
    stream.submit(lambda: seen.append(cpu.current_stream()))
    stream.synchronize()
    assert seen == [stream]


def test_an_entry_can_queue_on_and_wait_for_its_own_stream() -> None:
    stream = cpu.Stream()
    seen: list[object] = []
    started, event = Gate(stream), cpu.Event()

    def entry() -> None:
        stream.submit(seen.append, "inner")
        behind.wait()
        behind.synchronize()
        event.record()
        event.synchronize()
        stream.synchronize()
        cpu.synchronize()
        seen.append("outer")

    stream.submit(entry)
    behind = stream.record_event()
    started.open()
    within_patience(stream.synchronize)
    assert seen == ["inner", "outer"]


# Timing


def test_an_event_has_the_time_when_the_stream_passes_it() -> None:
    stream = cpu.Stream()
    start, end = cpu.Event(enable_timing=True), cpu.Event(enable_timing=True)
    gate = Gate(stream)
    start.record(stream)
    assert gate.arrived.wait(PATIENCE_S)
    before_ns = time.perf_counter_ns()
    gate.open()
    stream.submit(time.sleep, 0.02)
    end.record(stream)
    end.synchronize()
    elapsed_ms = start.elapsed_time(end)
    assert 20 <= elapsed_ms <= (time.perf_counter_ns() - before_ns) / 1e6
    assert end.elapsed_time(start) == -elapsed_ms


def test_an_event_recorded_again_has_a_new_time() -> None:
    stream = cpu.Stream()
    start, end = cpu.Event(enable_timing=True), cpu.Event(enable_timing=True)
    start.record(stream)
    end.record(stream)
    end.synchronize()
    early = start.elapsed_time(end)
    time.sleep(0.01)
    end.record(stream)
    end.synchronize()
    assert start.elapsed_time(end) >= early + 10


def test_elapsed_time_says_why_an_event_has_no_time() -> None:
    stream = cpu.Stream()
    done = cpu.Event(enable_timing=True)
    done.record(stream)
    done.synchronize()
    plain = stream.record_event()
    with pytest.raises(InvalidArgumentError, match="end event was made without timing"):
        done.elapsed_time(plain)
    with pytest.raises(InvalidArgumentError, match="start event was never recorded"):
        cpu.Event(enable_timing=True).elapsed_time(done)
    gate = Gate(stream)
    pending = cpu.Event(enable_timing=True)
    pending.record(stream)
    with pytest.raises(InvalidArgumentError, match="end event is not complete"):
        done.elapsed_time(pending)
    gate.open()
