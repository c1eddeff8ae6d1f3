"""Copies of the stream-free arm, some slowed by a known share of their time, and a worker that measures them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any, cast

from nccl_bench.bench import case_run, measure, worker
from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.schedule import Schedule
from nccl_bench.catalog.arms import ARMS, ArmSpec
from nccl_bench.catalog.timings import Timing
from nccl_bench.communicators.protocol import Operation

ORIGINAL = "stream-free"
AGAIN = "stream-free-again"
# The share of its own time by which each arm is slowed.
SLOWED: Mapping[str, float] = {"stream-free-1-percent": 0.01, "stream-free-5-percent": 0.05}
WORKER = "tests.experiments.slowed_arms"
_CALIBRATIONS = 9


def add_arms() -> None:
    """Add the arms to this process's table."""
    for name in (AGAIN, *SLOWED):
        cast(dict[str, ArmSpec], ARMS)[name] = replace(ARMS[ORIGINAL], name=name, default=False)


def slow_down() -> None:
    """Begin every gated batch of a slowed arm with a spin that lasts the arm's share of the batch's time."""
    measure_rounds: Callable[..., Any] = measure.measure_rounds
    calls: Callable[..., list[Operation]] = CaseContext.calls
    spins: dict[str, float] = {}

    def calibrated(context: CaseContext, names: Sequence[str], timing: Timing, schedule: Schedule, *rest: Any) -> Any:
        spins.clear()
        if timing is Timing.GATED:
            for name in (name for name in names if name in SLOWED):
                batch = calls(context, name, schedule.ops[timing])
                gate_s = 2 * schedule.gates_s[name, timing]
                times_us = [context.clock.gated(batch, gate_s).time_us for _ in range(_CALIBRATIONS)]
                slowest_us = context.control.maximum([median(times_us)])[0]
                spins[name] = SLOWED[name] * slowest_us * len(batch) / 1e6
        return measure_rounds(context, names, timing, schedule, *rest)

    def slowed(context: CaseContext, arm: str, operations: int, *rest: Any) -> list[Operation]:
        batch = calls(context, arm, operations, *rest)
        if arm in spins:
            batch[0] = partial(_spin_and_call, context, spins[arm], batch[0])
        return batch

    case_run.measure_rounds = calibrated
    CaseContext.calls = slowed  # type: ignore[method-assign]


def _spin_and_call(context: CaseContext, seconds: float, call: Operation) -> None:
    context.streams.hold(seconds)
    call()


def main(spec_file: str) -> None:
    """Run one rank as the specification in ``spec_file`` says."""
    add_arms()
    slow_down()
    worker.main(spec_file)
