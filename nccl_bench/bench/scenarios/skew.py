"""The scenario ``skew``: one rank comes late by a known time, so that reports separate waiting from transfer.

Before each call the ranks are aligned on the device. Then the last rank keeps its caller's stream busy for the delay,
and every rank makes the call. The time of the late rank is the transfer alone, because all other ranks already wait
for it. The time of an early rank is its wait and the transfer. Events on the late rank measure the delay.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Any

from nccl_bench.bench.scenarios.work import IsolatedWork, Surroundings
from nccl_bench.bench.timing import Batch, Clock
from nccl_bench.communicators.protocol import Operation


class SkewWork(IsolatedWork):
    """No work beside the call, but a late rank."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        own_set, delay_us = surroundings.own_set, surroundings.case.delay_us
        assert delay_us is not None
        self.late_rank = own_set.world_size - 1
        self.clock = SkewClock(surroundings.clock, delay_s=delay_us / 1e6, is_late=own_set.rank == self.late_rank)


class SkewClock(Clock):
    """A clock whose batches align the ranks before each call, and then delay this rank if it ``is_late``."""

    def __init__(self, clock: Clock, *, delay_s: float, is_late: bool) -> None:
        super().__init__(clock.streams, clock.caller, clock.align, clock.started)
        self._delay_s = delay_s
        self._is_late = is_late
        # For each call of a batch: the events after the alignment, at the start and at the end.
        self._events: list[tuple[Any, Any, Any]] = []

    def gated(self, calls: Sequence[Operation], gate_s: float) -> Batch:
        """Time each of ``calls`` between two events. The time of the batch is the mean of its calls."""
        delayed = self._delayed(calls)
        self._close_gate(gate_s)
        for call in delayed:
            call()
        held = not self._gate.query()
        self.caller.synchronize()
        ended = time.monotonic()
        events = self._events[: len(calls)]
        lasted_s = events[0][0].elapsed_time(events[-1][2]) / 1e3
        return Batch(
            time_us=fmean(start.elapsed_time(end) * 1e3 for _, start, end in events),
            valid=held,
            began_s=ended - lasted_s - self.started,
            delay_us=fmean(aligned.elapsed_time(start) * 1e3 for aligned, start, _ in events)
            if self._is_late
            else None,
        )

    def call_cost_us(self, calls: Sequence[Operation]) -> float:
        """Return the host's time for one call with its alignment, its delay and its events."""
        return super().call_cost_us(self._delayed(calls))

    def _delayed(self, calls: Sequence[Operation]) -> list[Operation]:
        """Return ``calls``, each with an alignment and a delay before it and with events."""
        while len(self._events) < len(calls):
            aligned, start, end = (self.streams.new_event(timing=True) for _ in range(3))
            self._events.append((aligned, start, end))
        return [partial(self._delay_and_call, call, *events) for call, events in zip(calls, self._events, strict=False)]

    def _delay_and_call(self, call: Operation, aligned: Any, start: Any, end: Any) -> None:
        self.align()
        aligned.record(self.caller)
        if self._is_late and self._delay_s:
            self.streams.hold(self._delay_s)
        start.record(self.caller)
        _result = call()
        end.record(self.caller)
