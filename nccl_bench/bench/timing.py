"""One batch: the four timings, each answering one question about N calls.

| timing  | question                                              |
| ------- | ----------------------------------------------------- |
| eager   | what does an eager caller see, launch cost included?  |
| gated   | what does the device spend, launch cost excluded?     |
| graph   | what does it cost in a captured CUDA graph?           |
| enqueue | what does one call cost the CPU thread?               |

The ranks are aligned on the device: a tiny collective of its own communicator runs right before the start event, since
after a host barrier they start hundreds of microseconds apart. The gate is a hold of bounded length, never one that
only the host can open; a batch whose gate opened before the last call was enqueued is not valid.
"""

from __future__ import annotations

import gc
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
    """One rank's measurement: microseconds per operation, and whether the gate held to the end."""

    time_us: float
    valid: bool


class Clock:
    """Times batches on one stream, ``caller``, which has to be current. ``align`` enqueues the aligning collective."""

    def __init__(self, streams: Streams, caller: Any, align: Operation) -> None:
        self._streams = streams
        self._caller = caller
        self._align = align
        self._start = streams.new_event(timing=True)
        self._end = streams.new_event(timing=True)
        self._gate = streams.new_event()

    def eager(self, calls: Sequence[Operation]) -> Batch:
        """Events around back-to-back calls, the queue empty at the start."""
        self._align()
        self._caller.synchronize()
        self._start.record(self._caller)
        for call in calls:
            call()
        self._end.record(self._caller)
        return Batch(self._elapsed_us() / len(calls), True)

    def gated(self, calls: Sequence[Operation], gate_s: float) -> Batch:
        """Events around calls that are all enqueued before the first one runs."""
        self._close_gate(gate_s)
        self._align()
        self._start.record(self._caller)
        for call in calls:
            call()
        self._end.record(self._caller)
        held = not self._gate.query()
        return Batch(self._elapsed_us() / len(calls), held)

    def graph(self, graph: Graph, replays: int, operations: int, gate_s: float) -> Batch:
        """Events around ``replays`` replays of a graph of ``operations`` operations, behind the gate."""
        self._close_gate(gate_s)
        self._align()
        self._start.record(self._caller)
        for _ in range(replays):
            graph.replay()
        self._end.record(self._caller)
        held = not self._gate.query()
        return Batch(self._elapsed_us() / (replays * operations), held)

    def enqueue(self, calls: Sequence[Operation], gate_s: float) -> Batch:
        """The host's clock around calls behind the gate, so that nothing they would wait for is near."""
        self._close_gate(gate_s)
        begin = time.perf_counter_ns()
        for call in calls:
            call()
        end = time.perf_counter_ns()
        held = not self._gate.query()
        self._caller.synchronize()
        return Batch((end - begin) / len(calls) / 1e3, held)

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

    def call_cost_us(self, calls: Sequence[Operation]) -> float:
        """A first idea of what one call costs the host, from an idle device; too few calls to fill a queue."""
        self._caller.synchronize()
        begin = time.perf_counter_ns()
        for call in calls:
            call()
        end = time.perf_counter_ns()
        self._caller.synchronize()
        return (end - begin) / len(calls) / 1e3

    def per_iteration(self, calls: Sequence[Operation], gate_s: float | None) -> tuple[list[float], bool]:
        """Microseconds of every operation, from events between every two of them; gated if ``gate_s`` is given.

        The events cost time themselves, so these figures are for spread and percentiles, not for means.
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
        return [a.elapsed_time(b) * 1e3 for a, b in pairwise(events)], held

    def _close_gate(self, gate_s: float) -> None:
        self._streams.hold(gate_s)
        self._gate.record(self._caller)

    def _elapsed_us(self) -> float:
        self._end.synchronize()
        elapsed_ms: float = self._start.elapsed_time(self._end)
        return elapsed_ms * 1e3


def loop_cost_us(calls: int = 1000) -> float:
    """What the timing loop itself costs per call: the same loop over calls that do nothing."""
    operations: list[Operation] = [_nothing] * calls
    costs = []
    for _ in range(9):
        begin = time.perf_counter_ns()
        for call in operations:
            call()
        costs.append((time.perf_counter_ns() - begin) / calls / 1e3)
    return sorted(costs)[len(costs) // 2]


def _nothing() -> None:
    pass


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep Python's garbage collector off, so that it does not run within a batch."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
