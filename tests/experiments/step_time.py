"""Simulate runs of a workload with a known truth: how often intervals and verdicts of step times are right.

    python -m tests.experiments.step_time
    python -m tests.experiments.step_time --messages 30 --tries 1000

The figures are in the guide's page ``verdicts``. A run has a baseline, its twin and one candidate. The messages have
2 to 200 calls in a step, between 8 and 300 us each. Rounds differ by 0.5 to 5 % (standard deviation, another one for
each message), and one round in seven by five times as much. The machine drifts, and in eager messages the CPU changes
between two speeds. Communicators differ by a part that all messages share, and by a part that each message has for
itself. The true ratio weighs the messages by the speed that the machine had; of several launches it is the mean over
the speeds that it can have.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.statistics import Verdict, narrow_enough
from nccl_bench.analysis.step_run import step_time
from nccl_bench.analysis.step_time import StepComparison
from nccl_bench.bench.stopping import ROUNDS_PER_BLOCK
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import DEFAULT_THRESHOLD, Limits
from nccl_bench.config.run import DEFAULT_MAX_ROUNDS, DEFAULT_ROUNDS, DEFAULT_ROUNDS_OF_LAUNCHES
from nccl_bench.config.workload import Workload
from nccl_bench.records.schema import Line
from tests.experiments.launches import CPU_CHANGES, CPU_SLOWNESS
from tests.support.workloads import BASE, TWIN, lines_of, message, workload_run

ARMS = (BASE, "torch", TWIN)
OUTLIERS, OUTLYING = 1 / 7, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The true properties of all simulated runs of a line."""

    name: str  # the properties in words
    ratio: float | None = 1.0  # the ratio of every message; None: each message has another, between 0.7 and 1.3
    alike: float = 0.0  # how far communicators differ at all messages alike, a standard deviation
    each: float = 0.0  # how far communicators differ at each message
    launches: int = 1  # the launches of a run


TRUTHS = (
    Truth(name="ratios differ, equal communicators", ratio=None),
    Truth(name="equal arms, equal communicators"),
    Truth(name="equal arms, communicators differ by 0.3 % alike, 0.5 % each", alike=0.003, each=0.005),
    Truth(name="equal arms, communicators differ by 1 % alike, 1 % each", alike=0.01, each=0.01),
    Truth(name="equal arms, communicators differ by 4 % each", each=0.04),
    Truth(name="equal arms, communicators differ by 4 % alike", alike=0.04),
    Truth(name="5 % slower, communicators differ by 0.3 % alike, 0.5 % each", ratio=1.05, alike=0.003, each=0.005),
    Truth(name="5 launches, ratios differ, 1 % alike, 1 % each", ratio=None, alike=0.01, each=0.01, launches=5),
    Truth(name="5 launches, equal arms, 1 % alike, 1 % each", alike=0.01, each=0.01, launches=5),
    Truth(name="5 launches, equal arms, 0.3 % alike, 0.5 % each", alike=0.003, each=0.005, launches=5),
    Truth(name="5 launches, 5 % slower, 1 % alike, 1 % each", ratio=1.05, alike=0.01, each=0.01, launches=5),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=400, help="Simulated runs for each line.")
    parser.add_argument("--messages", type=int, default=8)
    arguments = parser.parse_args()
    print(f"{arguments.messages} messages, {arguments.tries} runs for each line")
    for truth in TRUTHS:
        rng = np.random.default_rng(1)
        runs = [simulate(rng, arguments.messages, truth) for _ in range(arguments.tries)]
        print(f"{truth.name}: {describe(runs)}", flush=True)


def describe(runs: Sequence[tuple[StepComparison, float]]) -> str:
    """Return how many intervals contain the truth, the verdicts, and how many of them are wrong."""
    intervals = [(each.interval, ratio) for each, ratio in runs if each.interval is not None]
    inside = sum(interval.low <= ratio <= interval.high for interval, ratio in intervals)
    width = np.median([interval.half_width for interval, _ in intervals])
    verdicts = Counter(str(each.verdict) for each, _ in runs)
    wrong = sum(each.verdict not in (_right(ratio), Verdict.INCONCLUSIVE) for each, ratio in runs)
    shares = ", ".join(f"{count / len(runs):.1%} {verdict}" for verdict, count in verdicts.most_common())
    return (
        f"{inside / len(intervals):.1%} of the intervals contain the truth (half width {width:.1%}); {shares}; "
        f"{wrong / len(runs):.1%} wrong"
    )


def _right(ratio: float) -> Verdict:
    if abs(ratio - 1) <= DEFAULT_THRESHOLD:
        return Verdict.EQUIVALENT
    return Verdict.SLOWER if ratio > 1 else Verdict.FASTER


def simulate(rng: Generator, messages: int, truth: Truth) -> tuple[StepComparison, float]:
    """Return the comparison of one simulated run, and the true ratio of the step times."""
    calls = np.exp(rng.uniform(math.log(2), math.log(200), messages)).astype(int)
    base_us = np.exp(rng.uniform(math.log(8), math.log(300), messages))
    noises = np.exp(rng.uniform(math.log(0.005), math.log(0.05), messages))
    ratios = rng.uniform(0.7, 1.3, messages) if truth.ratio is None else np.full(messages, truth.ratio)
    timings = [Timing.GRAPH if index % 3 else Timing.EAGER for index in range(messages)]
    workload = Workload(
        messages=tuple(
            message(8 * 2**index, count, timing)
            for index, (count, timing) in enumerate(zip(calls.tolist(), timings, strict=True))
        )
    )
    lines: list[Line] = []
    speeds = np.ones(messages)
    for launch in range(1, truth.launches + 1):
        # The ratio of two communicators has the given standard deviation.
        own = rng.normal(0, truth.alike / math.sqrt(2), (1, len(ARMS)))
        own = own + rng.normal(0, truth.each / math.sqrt(2), (messages, len(ARMS)))
        fewest = DEFAULT_ROUNDS if truth.launches == 1 else DEFAULT_ROUNDS_OF_LAUNCHES
        times = []
        for index in range(messages):
            speed, of_message = _times(rng, noises[index], two_speeds=timings[index] is Timing.EAGER)
            of_message *= np.exp(own[index])
            of_message[:, 1] *= ratios[index]
            rounds = _rounds(of_message, fewest)
            times.append(base_us[index] * of_message[:rounds])
            speeds[index] = np.median(speed[:rounds])

        def times_us(index: int, arm: str, of_launch: Sequence[np.ndarray] = times) -> list[float]:
            of_arm: list[float] = of_launch[index][:, ARMS.index(arm)].tolist()
            return of_arm

        lines += lines_of(workload, times_us, ARMS, launch=launch)
    run = workload_run(lambda _index, _arm: None, workload=workload, more=lines)
    step = step_time(run, ComparableRun.of(run, "simulated"), Limits(default=DEFAULT_THRESHOLD), BASE, ["torch"])
    assert step is not None
    if truth.launches > 1:
        slow = rng.random((1000, messages)) < np.where([timing is Timing.EAGER for timing in timings], 0.5, 0.0)
        speeds = np.where(slow, CPU_SLOWNESS, 1.0)
    weights = calls * base_us * speeds
    of_speeds = (weights * ratios).sum(axis=-1) / weights.sum(axis=-1)
    return step.comparisons[0], float(np.exp(np.log(of_speeds).mean()))


def _times(rng: Generator, noise: float, *, two_speeds: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the speed of the machine in each round, and the times: a row for each round, a column for each arm.

    A time of 1 is usual, and a speed of 2 makes times twice as long.
    """
    shape = (DEFAULT_MAX_ROUNDS, len(ARMS))
    samples = rng.normal(0, noise / math.sqrt(2), shape) * np.where(rng.random(shape) < OUTLIERS, OUTLYING, 1.0)
    speed = np.exp(np.cumsum(rng.normal(0, 0.005, shape[0])))
    if two_speeds:
        changes = rng.random(shape[0]) < CPU_CHANGES
        slow = (np.cumsum(changes) + rng.integers(2)) % 2 == 1
        speed *= np.where(slow, CPU_SLOWNESS, 1.0)
    return speed, np.exp(samples) * speed[:, None]


def _rounds(times: np.ndarray, fewest: int) -> int:
    """Return how many rounds a run measures: the rule of ``bench.stopping``, which knows no verdict."""
    for rounds in range(fewest, len(times), ROUNDS_PER_BLOCK):
        paired = times[:rounds, 1:] / times[:rounds, :1]
        if all(narrow_enough(of_arm.tolist(), 0.05 / 3, DEFAULT_THRESHOLD) for of_arm in paired.T):
            return rounds
    return len(times)


if __name__ == "__main__":
    main()
