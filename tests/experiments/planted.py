"""The stream-free arm under other names: as it is, and slowed by a known share of its own time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any, cast

from nccl_bench.bench import worker
from nccl_bench.bench.case_run import CaseRun
from nccl_bench.bench.schedule import Schedule
from nccl_bench.bench.timing import Operation
from nccl_bench.catalog.arms import ARMS, ArmSpec
from nccl_bench.catalog.timings import Timing

ORIGINAL = "stream-free"
AGAIN = "stream-free-again"
# By how much each is slowed.
SLOWED: Mapping[str, float] = {"stream-free-1-percent": 0.01, "stream-free-5-percent": 0.05}
WORKER = "tests.experiments.planted"
_CALIBRATIONS = 9


def plant() -> None:
    """Make the arms known to this process."""
    for name in (AGAIN, *SLOWED):
        cast(dict[str, ArmSpec], ARMS)[name] = replace(ARMS[ORIGINAL], name=name, default=False)


def slow_down() -> None:
    """Have every gated batch of a slowed arm begin, within its events, with a spin of its share of the batch's time."""
    rounds: Callable[..., Any] = CaseRun._rounds
    calls: Callable[..., list[Operation]] = CaseRun._calls
    spins: dict[str, float] = {}

    def calibrated(run: CaseRun, names: Sequence[str], timing: Timing, schedule: Schedule, *rest: Any) -> Any:
        spins.clear()
        if timing is Timing.GATED:
            for name in (name for name in names if name in SLOWED):
                batch = calls(run, name, schedule.ops[timing])
                gate_s = 2 * schedule.gates_s[name, timing]
                times_us = [run.clock.gated(batch, gate_s).time_us for _ in range(_CALIBRATIONS)]
                slowest_us = run.control.maximum([median(times_us)])[0]
                spins[name] = SLOWED[name] * slowest_us * len(batch) / 1e6
        return rounds(run, names, timing, schedule, *rest)

    def slowed(run: CaseRun, arm: str, operations: int) -> list[Operation]:
        batch = calls(run, arm, operations)
        if arm in spins:
            batch[0] = partial(_spin_and_call, run, spins[arm], batch[0])
        return batch

    CaseRun._rounds = calibrated  # type: ignore[method-assign]
    CaseRun._calls = slowed  # type: ignore[method-assign]


def _spin_and_call(run: CaseRun, seconds: float, call: Operation) -> None:
    run.streams.hold(seconds)
    call()


if __name__ == "__main__":
    import sys

    plant()
    slow_down()
    worker.main(sys.argv[1])
