"""Simulate runs of several launches with a known truth: false alarms, the power at 5 %, and the coverage of intervals.

    python -m tests.experiments.launches
    python -m tests.experiments.launches --launches 3 --timings 4 --sizes 28 --candidates 3

The figures are in ``results/README.md``. The first command takes 3 minutes on one core. Each simulated run has
the noise of a real one: communicators that differ by 0.1 to 1.5 %, rounds that differ by 0.5 to 5 %, a machine that
drifts, and in the first timing, like `eager`, a CPU that changes between two speeds.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.random import Generator

from nccl_bench.analysis.cells import LAUNCH_STRIDE, Cell
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.one_run import compare_arms
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Verdict, narrow_enough
from nccl_bench.bench.stopping import ROUNDS_PER_BLOCK
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import DEFAULT_THRESHOLD, Limits
from nccl_bench.config.rounds import DEFAULT_MAX_ROUNDS, DEFAULT_ROUNDS_OF_LAUNCHES
from tests.support.synthetic_runs import case

BASE = "baseline"
# How far communicators differ: the standard deviation of each cell's ratio from launch to launch.
SPREADS: Mapping[str, Callable[[Generator, int], np.ndarray]] = {
    "0.4 % in all cells": lambda rng, cells: np.full(cells, 0.004),
    "0.1 to 1.5 %": lambda rng, cells: rng.uniform(0.001, 0.015, cells),
    "0.2 %, one cell in ten 1.5 %": lambda rng, cells: np.where(rng.random(cells) < 0.1, 0.015, 0.002),
    "1.5 % in all cells": lambda rng, cells: np.full(cells, 0.015),
}
# The true ratio of all candidates. No verdict but `equivalent` is right for a ratio at the threshold.
RATIOS = {"equal": 1.0, "at the threshold": 1 + DEFAULT_THRESHOLD, "5 % slower": 1.05}
# The slow speed of the CPU, relative to the fast one, and how often it changes, for each round.
CPU_SLOWNESS, CPU_CHANGES = 1.5, 0.03


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=400, help="Simulated runs for each line.")
    parser.add_argument("--launches", type=int, default=5)
    parser.add_argument("--sizes", type=int, default=13)
    parser.add_argument("--timings", type=int, default=2)
    parser.add_argument("--candidates", type=int, default=1)
    arguments = parser.parse_args()
    shape = (arguments.sizes, arguments.timings, arguments.candidates)
    print(f"{math.prod(shape)} cells, {arguments.launches} launches, {arguments.tries} runs for each line")
    for spread, draw in SPREADS.items():
        for name, ratio in RATIOS.items():
            rng = np.random.default_rng(1)
            runs = [simulate(rng, shape, arguments.launches, ratio, draw) for _ in range(arguments.tries)]
            print(f"communicators differ by {spread}, candidates {name}: {describe(runs, ratio)}", flush=True)


def describe(runs: Sequence[Sequence[Comparison]], ratio: float) -> str:
    """Return how many runs have a wrong verdict, the verdicts, and how often the intervals contain the truth."""
    right = Verdict.SLOWER if ratio > 1 + DEFAULT_THRESHOLD else Verdict.EQUIVALENT
    wrong = sum(any(each.verdict not in (right, Verdict.INCONCLUSIVE) for each in run) for run in runs)
    verdicts = Counter(str(each.verdict) for run in runs for each in run)
    shares = ", ".join(f"{count / verdicts.total():.1%} {verdict}" for verdict, count in verdicts.most_common())
    intervals = [each.interval for run in runs for each in run if each.interval is not None]
    missed = sum(not each.low <= ratio <= each.high for each in intervals)
    return (
        f"{wrong / len(runs):.1%} of runs have a wrong verdict; {shares}; "
        f"{missed / len(intervals):.2%} of the corrected intervals miss the truth"
    )


def simulate(
    rng: Generator,
    shape: tuple[int, int, int],
    launches: int,
    ratio: float,
    draw: Callable[[Generator, int], np.ndarray],
) -> tuple[Comparison, ...]:
    """Return the comparisons of one simulated run."""
    sizes, timings, candidates = shape
    arms = [BASE, *(f"candidate-{number}" for number in range(candidates))]
    cells: dict[Cell, dict[int, float]] = {}
    for timing in list(Timing)[:timings]:
        spreads = draw(rng, sizes)
        noises = np.exp(rng.uniform(math.log(0.005), math.log(0.05), sizes))
        for number, (spread, noise) in enumerate(zip(spreads, noises, strict=True)):
            for launch in range(launches):
                times = _times(rng, len(arms), ratio, spread, noise, two_speeds=timing is Timing.EAGER)
                for arm, of_arm in zip(arms, times[: _rounds(times)].T, strict=True):
                    rounds = {launch * LAUNCH_STRIDE + index: time for index, time in enumerate(of_arm.tolist())}
                    cells.setdefault((case(8 * 4**number), timing, arm), {}).update(rounds)
    run = ComparableRun(name="simulated", arms=tuple(arms), cells=cells)
    return compare_arms(run, Limits(default=DEFAULT_THRESHOLD))


def _times(rng: Generator, arms: int, ratio: float, spread: float, noise: float, *, two_speeds: bool) -> np.ndarray:
    """Return the times of one cell in one launch: a row for each round, a column for each arm, the baseline first."""
    rounds = DEFAULT_MAX_ROUNDS
    # The difference of two communicators, or of two samples of a round, has the given standard deviation.
    communicators = rng.normal(0, spread / math.sqrt(2), arms)
    samples = rng.normal(0, noise / math.sqrt(2), (rounds, arms))
    drift = np.cumsum(rng.normal(0, 0.005, (rounds, 1)), axis=0)
    times = 10.0 * np.exp(communicators + samples + drift)
    times[:, 1:] *= ratio
    if two_speeds:
        # The speed can also change between two arms of one round.
        changes = rng.random(rounds * arms) < CPU_CHANGES / arms
        slow = (np.cumsum(changes) + rng.integers(2)) % 2 == 1
        times *= np.where(slow, CPU_SLOWNESS, 1.0).reshape(rounds, arms)
    return times


def _rounds(times: np.ndarray) -> int:
    """Return how many rounds a launch measures: the rule of ``bench.stopping``, which knows no verdict."""
    for rounds in range(DEFAULT_ROUNDS_OF_LAUNCHES, len(times), ROUNDS_PER_BLOCK):
        paired = times[:rounds, 1:] / times[:rounds, :1]
        if all(narrow_enough(of_arm.tolist(), FAMILYWISE_ERROR, DEFAULT_THRESHOLD) for of_arm in paired.T):
            return rounds
    return len(times)


if __name__ == "__main__":
    main()
