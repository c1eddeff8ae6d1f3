"""The measurement of one batch. Each timing answers a question about N calls (``catalog.timings``).

The ranks are aligned on the device: a tiny collective of a communicator of its own runs right before the start event.
After a host barrier alone, ranks start hundreds of microseconds apart. The gate is a hold of bounded length, never one
that only the host can open. A batch whose gate opened before the last call was enqueued is not valid.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nccl_bench.catalog.timings import Timing
from nccl_bench.streams.base import Graph, Streams

Operation = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Batch:
    """The measurement of one batch on one rank."""

    time_us: float  # microseconds per operation
    valid: bool  # the gate held until every call was enqueued


class Clock:
    """The clock of one stream, ``caller``, which must be current. ``align`` enqueues the aligning collective."""

    def __init__(self, streams: Streams, caller: Any, align: Operation) -> None:
        self._streams = streams
        self._caller = caller
        self._align = align
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
        gate_s: float,
    ) -> Batch:
        """Measure one batch of ``timing``: ``calls``, or ``replays`` replays of a ``graph`` of ``operations``."""
        match timing:
            case Timing.EAGER:
                return self.eager(calls)
            case Timing.GATED:
                return self.gated(calls, gate_s)
            case Timing.GRAPH:
                assert graph is not None
                return self.graph(graph, replays, operations, gate_s)
            case Timing.ENQUEUE:
                return self.enqueue(calls, gate_s)

    def eager(self, calls: Sequence[Operation]) -> Batch:
        """Time back-to-back calls with events around them; the queue is empty at the start."""
        self._align()
        self._caller.synchronize()
        self._start.record(self._caller)
        for call in calls:
            call()
        self._end.record(self._caller)
        return Batch(self._elapsed_us() / len(calls), True)

    def gated(self, calls: Sequence[Operation], gate_s: float) -> Batch:
        """Time calls with events around them; all are enqueued before the first one runs."""
        self._close_gate(gate_s)
        self._align()
        self._start.record(self._caller)
        for call in calls:
            call()
        self._end.record(self._caller)
        held = not self._gate.query()
        return Batch(self._elapsed_us() / len(calls), held)

    def graph(self, graph: Graph, replays: int, operations: int, gate_s: float) -> Batch:
        """Time ``replays`` replays of a graph of ``operations`` operations, with events around them, behind a gate."""
        self._close_gate(gate_s)
        self._align()
        self._start.record(self._caller)
        for _ in range(replays):
            graph.replay()
        self._end.record(self._caller)
        held = not self._gate.query()
        return Batch(self._elapsed_us() / (replays * operations), held)

    def enqueue(self, calls: Sequence[Operation], gate_s: float) -> Batch:
        """Time calls with the host's clock, behind a gate, so that nothing completes that a call could wait for."""
        self._close_gate(gate_s)
        begin = time.perf_counter_ns()
        for call in calls:
            call()
        end = time.perf_counter_ns()
        held = not self._gate.query()
        self._caller.synchronize()
        return Batch((end - begin) / len(calls) / 1e3, held)

    def call_cost_us(self, calls: Sequence[Operation]) -> float:
        """Return about what one call costs the host on an idle device; the calls must not fill the launch queue."""
        self._caller.synchronize()
        begin = time.perf_counter_ns()
        for call in calls:
            call()
        end = time.perf_counter_ns()
        self._caller.synchronize()
        return (end - begin) / len(calls) / 1e3

    def per_iteration(self, calls: Sequence[Operation], gate_s: float | None) -> tuple[list[float], bool]:
        """Return the microseconds of every operation, from events between them, and whether the gate held.

        Without ``gate_s`` there is no gate. The events take time too, so these figures are for spread and percentiles,
        not for means.
        """
        events = [self._streams.new_event(timing=True) for _ in range(len(calls) + 1)]
        if gate_s is not None:
            self._close_gate(gate_s)
        self._align()
        if gate_s is None:
            self._caller.synchronize()
        events[0].record(self._caller)
        for call, event in zip(calls, events[1:], strict=True):
            call()
            event.record(self._caller)
        held = gate_s is None or not self._gate.query()
        self._caller.synchronize()
        return [start.elapsed_time(end) * 1e3 for start, end in pairwise(events)], held

    def _close_gate(self, gate_s: float) -> None:
        self._streams.hold(gate_s)
        self._gate.record(self._caller)

    def _elapsed_us(self) -> float:
        self._end.synchronize()
        elapsed_ms: float = self._start.elapsed_time(self._end)
        return elapsed_ms * 1e3


def no_operation() -> None:
    """Do nothing."""


def loop_cost_us(calls: int = 1000) -> float:
    """Return what the timing loop costs per call: the median of loops over calls that do nothing."""
    operations: list[Operation] = [no_operation] * calls
    costs_us = []
    for _ in range(9):
        begin = time.perf_counter_ns()
        for call in operations:
            call()
        costs_us.append((time.perf_counter_ns() - begin) / calls / 1e3)
    return statistics.median(costs_us)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep Python's garbage collector from running within a batch."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
