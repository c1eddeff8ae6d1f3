"""The measurement of one batch. ``catalog.timings`` lists the question that each timing answers.

The ranks are aligned on the device: a tiny collective, on a separate communicator, runs right before the start event.
With a barrier on the host, ranks would start hundreds of microseconds apart. A gate opens after a fixed time, even if
the host is late. If the gate opens before the last call is enqueued, the batch is not valid.

What a call returns lives until the next call has returned, as in the loop of an engine. So the allocator hands out the
same two blocks in turn.
"""

import gc
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from nccl_bench.catalog.timings import Timing
from nccl_bench.communicators.protocol import Operation
from nccl_bench.streams.base import Graph, Streams


@dataclass(frozen=True, slots=True)
class Batch:
    """The measurement of one batch on one rank."""

    time_us: float  # microseconds per operation
    valid: bool  # False if a gate opened before the last call was enqueued
    began_s: float  # seconds from `Clock.started` to the start of the timed part, on this host
    delay_us: float | None = None  # how much later this rank came than the others; None if it is not the late rank


class Clock:
    """A clock for batches on ``caller``, which must be the current stream. ``align`` aligns the ranks on the device.

    The starts of batches are counted from ``started``, which is a reading of ``time.monotonic``.
    """

    def __init__(self, streams: Streams, caller: Any, align: Operation, started: float = 0.0) -> None:
        self.streams = streams
        self.caller = caller
        self.align = align
        self.started = started
        self._start = streams.new_event(timing=True)
        self._end = streams.new_event(timing=True)
        self._gate = streams.new_event()

    def batch(
        self,
        timing: Timing,
        calls: Sequence[Operation],
        graph: Graph | None,
        *,
        operations: int,
        replays: int,
        untimed: int,
        gate_s: float,
    ) -> Batch:
        """Measure a batch of ``calls``, or of ``replays`` replays of ``graph``, which has ``operations`` operations.

        The first ``untimed`` calls are not timed; only ``enqueue`` has such calls.
        """
        match timing:
            case Timing.EAGER:
                return self.eager(calls)
            case Timing.GATED:
                return self.gated(calls, gate_s)
            case Timing.GRAPH:
                assert graph is not None
                return self.graph(graph, replays, operations, gate_s)
            case Timing.ENQUEUE:
                return self.enqueue(calls, gate_s, untimed)

    def eager(self, calls: Sequence[Operation]) -> Batch:
        """Time ``calls`` with two events around them. The launch queue is empty at the start."""
        self.align()
        self.caller.synchronize()
        self._start.record(self.caller)
        for call in calls:
            _result = call()
        self._end.record(self.caller)
        return self._batch(len(calls), True)

    def gated(self, calls: Sequence[Operation], gate_s: float) -> Batch:
        """Time ``calls`` with two events around them. All calls are enqueued before the first call runs."""
        self._close_gate(gate_s)
        self.align()
        self._start.record(self.caller)
        for call in calls:
            _result = call()
        self._end.record(self.caller)
        held = not self._gate.query()
        return self._batch(len(calls), held)

    def graph(self, graph: Graph, replays: int, operations: int, gate_s: float) -> Batch:
        """Time ``replays`` replays of ``graph`` with two events. All replays are enqueued before any replay runs."""
        batch = self.gated([graph.replay] * replays, gate_s)
        return replace(batch, time_us=batch.time_us / operations)

    def enqueue(self, calls: Sequence[Operation], gate_s: float, untimed: int = 0) -> Batch:
        """Time ``calls`` with the host's clock, while a gate keeps the device from running the calls.

        The first ``untimed`` calls only fill the CPU's caches. They are behind the gate too.
        """
        timed = calls[untimed:]
        self._close_gate(gate_s)
        for call in calls[:untimed]:
            _result = call()
        began = time.monotonic()
        begin = time.perf_counter_ns()
        for call in timed:
            _result = call()
        end = time.perf_counter_ns()
        held = not self._gate.query()
        self.caller.synchronize()
        return Batch((end - begin) / len(timed) / 1e3, held, began - self.started)

    def call_cost_us(self, calls: Sequence[Operation]) -> float:
        """Return the host's estimated time for one call on an idle device. ``calls`` must fit into the launch queue."""
        self.caller.synchronize()
        begin = time.perf_counter_ns()
        for call in calls:
            _result = call()
        end = time.perf_counter_ns()
        self.caller.synchronize()
        return (end - begin) / len(calls) / 1e3

    def per_iteration(self, calls: Sequence[Operation], gate_s: float | None) -> tuple[list[float], bool]:
        """Return each operation's time in microseconds, from events between operations, and whether the gate held.

        If ``gate_s`` is None, there is no gate, and the second value is True. The events take time, so use these times
        for percentiles, not for means.
        """
        events = [self.streams.new_event(timing=True) for _ in range(len(calls) + 1)]
        if gate_s is not None:
            self._close_gate(gate_s)
        self.align()
        if gate_s is None:
            self.caller.synchronize()
        events[0].record(self.caller)
        for call, event in zip(calls, events[1:], strict=True):
            _result = call()
            event.record(self.caller)
        held = gate_s is None or not self._gate.query()
        self.caller.synchronize()
        return [start.elapsed_time(end) * 1e3 for start, end in pairwise(events)], held

    def _close_gate(self, gate_s: float) -> None:
        self.streams.hold(gate_s)
        self._gate.record(self.caller)

    def _batch(self, operations: int, valid: bool) -> Batch:
        """Return the batch of ``operations`` operations between the two events."""
        self._end.synchronize()
        ended = time.monotonic()
        elapsed_ms: float = self._start.elapsed_time(self._end)
        # The host does not see when the device passes the first event, but it has just seen the second one.
        return Batch(elapsed_ms * 1e3 / operations, valid, ended - elapsed_ms / 1e3 - self.started)


def no_operation() -> None:
    """Do nothing."""


def loop_cost_us(calls: int = 1000) -> float:
    """Return the cost of the timing loop in microseconds per call: the median of loops whose calls do nothing."""
    operations: list[Operation] = [no_operation] * calls
    costs_us = []
    for _ in range(9):
        begin = time.perf_counter_ns()
        for call in operations:
            _result = call()
        costs_us.append((time.perf_counter_ns() - begin) / calls / 1e3)
    return statistics.median(costs_us)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Switch Python's garbage collector off within the ``with`` block."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
