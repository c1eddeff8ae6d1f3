"""Simulate runs with and without carry-over: how often it is reported without reason, and how often it is found.

    python -m tests.experiments.carry_over

The figures are in ``results/README.md``. The command takes 6 minutes on one core. A simulated run has the noise
of a real one, also a CPU that changes between two speeds. The planted effect makes one arm slower right after one other
arm, in some sizes of one timing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from nccl_bench.analysis.carry_over import CarryOver, find_carry_over
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import DEFAULT_THRESHOLD, Limits
from tests.support.carry_over_runs import Planted, simulated_run

ARMS = ("baseline", "first", "second", "third", "baseline:twin")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=300, help="Simulated runs for each line.")
    parser.add_argument("--sizes", type=int, default=28)
    arguments = parser.parse_args()
    timings = (Timing.EAGER, Timing.GATED)
    for launches, rounds in ((1, 15), (1, 60), (5, 6)):
        shape = f"{len(ARMS)} arms, {arguments.sizes} sizes, {len(timings)} timings, {launches} x {rounds} rounds"
        rng = np.random.default_rng(1)
        alarms = sum(bool(_found(rng, launches, rounds, arguments.sizes, timings)) for _ in range(arguments.tries))
        print(f"{shape}: {alarms} of {arguments.tries} runs without carry-over have a finding", flush=True)
        for effect in (0.03, 0.1):
            for sizes in (4, 8, arguments.sizes):
                planted = Planted(arm="first", predecessor="third", timing=Timing.GATED, effect=effect, sizes=sizes)
                runs = [
                    _found(rng, launches, rounds, arguments.sizes, timings, planted)
                    for _ in range(max(1, arguments.tries // 10))
                ]
                explained = sum(bool(run) and planted.explains(run[0]) for run in runs)
                other = sum(any(not planted.explains(each) for each in run) for run in runs)
                print(
                    f"{shape}: {effect:.0%} at {sizes} sizes is found in {explained} of {len(runs)} runs; "
                    f"another pair is named too in {other}",
                    flush=True,
                )


def _found(
    rng: Generator,
    launches: int,
    rounds: int,
    sizes: int,
    timings: Sequence[Timing],
    planted: Planted | None = None,
) -> list[CarryOver]:
    run = simulated_run(rng, ARMS, timings, sizes=sizes, launches=launches, rounds=rounds, planted=planted)
    return find_carry_over(run, Limits(default=DEFAULT_THRESHOLD))


if __name__ == "__main__":
    main()
