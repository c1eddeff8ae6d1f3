"""Simulate runs whose arms have process sets of their own, and whose arms are equal: how many raise a false alarm?

    python -m tests.experiments.process_sets
    python -m tests.experiments.process_sets --ratio 1.05

The figures are in the page ``verdicts`` of the guide. The command takes 2 minutes on one core. As on one H200, the
ratio of two processes differs by 15 % in timings that include launch cost, and by 0.5 % in the others.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from nccl_bench.analysis.cells import LAUNCH_STRIDE, Cell
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.one_run import compare_arms
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.timings import TIMINGS
from nccl_bench.config.limits import DEFAULT_THRESHOLD, Limits
from tests.support.synthetic_runs import case

OLD, NEW = "old", "new"
ARMS = (OLD, NEW, twin_of(OLD))
# The standard deviation of a ratio between two processes, and that between two samples of one round.
CPU_SPREAD, DEVICE_SPREAD, NOISE = 0.15, 0.005, 0.01
# The number of rounds in each launch, by the number of launches.
ROUNDS = {1: 30, 5: 6}
# The name of each way in which processes differ, and whether the difference is the same at all sizes of a timing.
EFFECTS = {"each size its own": False, "the same at all sizes": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=1000, help="Simulated runs for each line.")
    parser.add_argument("--sizes", type=int, default=3)
    parser.add_argument("--ratio", type=float, default=1.0, help="The true ratio of the candidate.")
    arguments = parser.parse_args()
    for launches in ROUNDS:
        for effect, same in EFFECTS.items():
            # With several launches the records of process sets change nothing.
            for title, known in {"process sets unknown": False, "process sets known": True}.items():
                if launches > 1 and not known:
                    continue
                rng = np.random.default_rng(1)
                runs = [
                    simulate(rng, arguments.sizes, launches, arguments.ratio, same_at_all_sizes=same, known=known)
                    for _ in range(arguments.tries)
                ]
                print(f"launches {launches}, {effect}, {title}: {describe(runs, arguments.ratio)}", flush=True)


def describe(runs: Sequence[Sequence[Comparison]], ratio: float) -> str:
    """Return how many runs call a cell faster or slower that is not, and the verdicts of both kinds of timings."""
    right = Verdict.SLOWER if ratio > 1 + DEFAULT_THRESHOLD else Verdict.EQUIVALENT
    wrong = sum(any(each.verdict not in (right, Verdict.INCONCLUSIVE) for each in run) for run in runs)
    kinds = []
    for name, includes in (("eager and enqueue", True), ("gated and graph", False)):
        verdicts = Counter(
            str(each.verdict) for run in runs for each in run if TIMINGS[each.timing].includes_launch_cost == includes
        )
        shares = (f"{count / verdicts.total():.1%} {verdict}" for verdict, count in verdicts.most_common())
        kinds.append(f"{name} {', '.join(shares)}")
    return f"{wrong} of {len(runs)} runs have a wrong verdict; {'; '.join(kinds)}"


def simulate(
    rng: Generator, sizes: int, launches: int, ratio: float, *, same_at_all_sizes: bool, known: bool
) -> tuple[Comparison, ...]:
    """Return the comparisons of one simulated run; ``known`` is false if the records lack the process sets."""
    cells: dict[Cell, dict[int, float]] = {}
    for timing, spec in TIMINGS.items():
        spread = (CPU_SPREAD if spec.includes_launch_cost else DEVICE_SPREAD) / math.sqrt(2)
        for launch in range(launches):
            effects = rng.normal(0, spread, (1 if same_at_all_sizes else sizes, len(ARMS)))
            for number, of_size in enumerate(np.broadcast_to(effects, (sizes, len(ARMS)))):
                noise = rng.normal(0, NOISE / math.sqrt(2), (ROUNDS[launches], len(ARMS)))
                times = 10.0 * np.exp(of_size + noise) * [ratio if arm == NEW else 1.0 for arm in ARMS]
                for arm, of_arm in zip(ARMS, times.T, strict=True):
                    rounds = {launch * LAUNCH_STRIDE + index: time for index, time in enumerate(of_arm.tolist())}
                    cells.setdefault((case(8 * 4**number), timing, arm), {}).update(rounds)
    run = ComparableRun(
        name="simulated",
        arms=(OLD, NEW),
        cells=cells,
        process_sets={arm: index for index, arm in enumerate(ARMS)} if known else {},
    )
    return compare_arms(run, Limits(default=DEFAULT_THRESHOLD))


if __name__ == "__main__":
    main()
