"""The queues of the CPU's streams: their threads, and how long they and their entries live."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest
import torch

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


def test_a_queue_keeps_arguments_alive_until_the_entry_is_done() -> None:
    stream = cpu.Stream()
    sums: list[float] = []
    gate = Gate(stream)
    tensor = torch.ones(8)
    alive = weakref.ref(tensor)
    stream.submit(lambda t: sums.append(float(t.sum())), tensor)
    del tensor
    assert gate.arrived.wait(PATIENCE_S)
    assert alive() is not None
    gate.open()
    stream.synchronize()
    assert sums == [8.0]
    assert alive() is None


def test_a_dropped_stream_finishes_its_work_and_ends_its_thread() -> None:
    gc.disable()  # an object that only the cycle collector frees is a leak
    try:
        before = stream_threads()
        seen: list[int] = []
        for number in range(50):
            stream = cpu.Stream()
            stream.submit(seen.append, number)
            stream.record_event().query()
        started = stream_threads() - before
        del stream
        for thread in started:
            thread.join(PATIENCE_S)
        assert sorted(seen) == list(range(50))
        assert stream_threads() <= before
    finally:
        gc.enable()


def test_a_reported_failure_and_its_stream_are_freed() -> None:
    gc.disable()
    try:
        stream = cpu.Stream()
        dropped = weakref.ref(stream)
        stream.submit(raise_planted_error)
        try:
            cpu.synchronize()
        except PlantedError as error:
            reported = weakref.ref(error)
        stream.submit(len, ())
        stream.synchronize()
        del stream
        assert reported() is None
        assert dropped() is None
    finally:
        gc.enable()


def test_a_stream_without_work_has_no_thread() -> None:
    before = stream_threads()
    stream = cpu.Stream()
    stream.synchronize()
    assert stream.query()
    assert stream_threads() <= before


def test_only_work_and_times_take_a_place_in_a_queue() -> None:
    first, second = cpu.Stream(), cpu.Stream()
    before = stream_threads()
    event = first.record_event()
    second.wait_event(event)
    second.wait_stream(first)
    assert event.query()
    # Neither stream has started its thread.
    assert stream_threads() == before
    cpu.Event(enable_timing=True).record(first)
    assert len(stream_threads() - before) == 1


def test_a_thread_that_waits_wakes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = cpu.Stream()
    wakes: list[int] = []
    notify = stream._queue.changed.notify_all
    monkeypatch.setattr(stream._queue.changed, "notify_all", lambda: (wakes.append(stream._queue.completed), notify()))
    gate = Gate(stream)
    for _ in range(5):
        stream.submit(lambda: None)
    waiting = threading.Thread(target=stream.synchronize)
    waiting.start()
    while not stream._queue.awaited:
        time.sleep(0.001)
    gate.open()
    within_patience(waiting.join)
    assert wakes == [6]
