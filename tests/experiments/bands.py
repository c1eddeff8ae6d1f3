"""Simulate runs with a known truth: how often are verdicts of bands and of single sizes wrong?

    python -m tests.experiments.bands
    python -m tests.experiments.bands --tries 2000 --only communicators

The figures are in the page ``verdicts`` of the guide. The first command takes 4 minutes on one core. Each simulated
run has a baseline, its twin and one candidate, four timings of 28 sizes, and the noise of a run on 2x H200.

A verdict is wrong if it is ``faster`` or ``slower`` and the true ratio is not beyond the threshold, or if it is
``equivalent`` and the true ratio is beyond the threshold. The true ratio of a band is the mean of the true ratios of
its sizes. A size is hidden if its true ratio is farther from the range of its band's verdict than another threshold.
Where sizes differ from each other, a line also has the share of them that is hidden in each timing, and the median of
the changes of one size alone that bands say they can hide. If one size differs, a line also has the number of bands
that hide a larger change than they say.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median

import numpy as np
from numpy.random import Generator

from nccl_bench.analysis.bands import Band, bands_of
from nccl_bench.analysis.cells import LAUNCH_STRIDE, Cell
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.next_step import confirming_step
from nccl_bench.analysis.one_run import compare_arms
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import DEFAULT_THRESHOLD, Limits
from tests.support.synthetic_runs import case

BASE, NEW = "baseline", "candidate"
ARMS = (BASE, NEW, twin_of(BASE))
SIZES = 28
# The rounds of each timing, and the standard deviation of the ratio of two samples of a round, as on 2x H200.
ROUNDS = {Timing.EAGER: 30, Timing.GATED: 15, Timing.GRAPH: 15, Timing.ENQUEUE: 15}
NOISES = {Timing.EAGER: 0.03, Timing.GATED: 0.006, Timing.GRAPH: 0.006, Timing.ENQUEUE: 0.065}
ROUNDS_OF_LAUNCHES = 6
# The slow speed of the CPU, relative to the fast one, and how often it changes, for each round.
CPU_SLOWNESS, CPU_CHANGES = 1.5, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The truth about simulated runs."""

    name: str  # what is simulated, in words
    ratio: Callable[[float], float] = lambda _: 1.0  # the true ratio of a size; 0 is the smallest size, 1 the largest
    same: float = 0.003  # how far two communicators differ at all sizes of a timing alike: a standard deviation
    own: float = 0.005  # how far they differ at each size on its own: a standard deviation
    heavy_tails: bool = False  # True if rounds have Student's distribution with two degrees of freedom
    two_speeds: bool = True  # True if the CPU changes its speed, which shows in `eager` and `enqueue`
    timings: Sequence[Timing] = tuple(Timing)  # the timings that are measured
    sizes: int = SIZES  # the number of sizes
    launches: int = 1  # the number of launches; each has new communicators


def _slow_size(times: float) -> Callable[[float], float]:
    return lambda at: times if 0.45 < at < 0.49 else 1.0


def _shares(levels: Iterable[float]) -> Iterable[tuple[float, str]]:
    return ((level, f"{level:.1%}") for level in levels)


WORLDS: Mapping[str, Sequence[World]] = {
    "communicators": [
        World(name="as on 2x H200: 0.3 % at all sizes, 0.5 % at each"),
        *(
            World(name=f"{text} at all sizes alike", same=level, own=0)
            for level, text in _shares((0.01, 0.02, 0.03, 0.04))
        ),
        *(
            World(name=f"{text}, each size its own", same=0, own=level)
            for level, text in _shares((0.01, 0.02, 0.03, 0.04))
        ),
        *(
            World(
                name=f"{text} at all sizes alike, one timing, {sizes} sizes",
                same=level,
                own=0,
                timings=[Timing.GRAPH],
                sizes=sizes,
            )
            for level, text in _shares((0.02, 0.04))
            for sizes in (SIZES, 1)
        ),
    ],
    "rounds": [
        World(name="heavy tails", heavy_tails=True, two_speeds=False),
        World(name="a CPU with one speed", two_speeds=False),
        World(name="heavy tails, 5 % slower", ratio=lambda _: 1.05, heavy_tails=True),
    ],
    "changes": [
        World(name="2 % slower, exactly the threshold", ratio=lambda _: 1 + DEFAULT_THRESHOLD),
        World(name="2 % faster, exactly the threshold", ratio=lambda _: 1 - DEFAULT_THRESHOLD),
        World(name="5 % slower", ratio=lambda _: 1.05),
        World(name="5 % faster", ratio=lambda _: 0.95),
        World(name="5 % slower, one timing", ratio=lambda _: 1.05, timings=[Timing.GRAPH]),
        World(name="5 % slower, one timing, one size", ratio=lambda _: 1.05, timings=[Timing.GRAPH], sizes=1),
        World(name="5 % slower in the lower half of the sizes", ratio=lambda at: 1.05 if at < 0.5 else 1.0),
        World(name="28 % faster, 10 % at 8 MiB, equal above", ratio=lambda at: 0.72 + 0.24 * at if at < 0.75 else 1.0),
        World(name="a slope from equal to 6 % slower", ratio=lambda at: 1 + 0.06 * at),
    ],
    "one size": [
        World(name=f"{level:.0%} slower at one size", ratio=_slow_size(1 + level)) for level in (0.03, 0.05, 0.1, 0.2)
    ],
    "launches": [
        *(
            World(name=f"five launches, {text} at all sizes alike", same=level, own=0, launches=5)
            for level, text in _shares((0.03, 0.04))
        ),
        World(name="five launches, 5 % slower", ratio=lambda _: 1.05, launches=5),
        World(
            name="five launches, 5 % slower, one timing, one size",
            ratio=lambda _: 1.05,
            timings=[Timing.GRAPH],
            sizes=1,
            launches=5,
        ),
        World(name="five launches, 5 % slower at one size", ratio=_slow_size(1.05), launches=5),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=400, help="Simulated runs for each line.")
    parser.add_argument("--only", choices=WORLDS, help="One group of lines.")
    arguments = parser.parse_args()
    for group, worlds in WORLDS.items():
        for world in worlds if arguments.only in (None, group) else ():
            rng = np.random.default_rng(1)
            runs = [simulate(rng, world) for _ in range(arguments.tries)]
            print(f"{group}: {world.name}: {describe(runs, world)}", flush=True)


def simulate(rng: Generator, world: World) -> tuple[Comparison, ...]:
    """Return the comparisons of one simulated run."""
    cells: dict[Cell, dict[int, float]] = {}
    for timing, launch in product(world.timings, range(world.launches)):
        # The difference of two communicators has the given standard deviation.
        deviations = rng.normal(0, world.same / math.sqrt(2), len(ARMS)) + rng.normal(
            0, world.own / math.sqrt(2), (world.sizes, len(ARMS))
        )
        for number, of_size in enumerate(deviations):
            times = 10.0 * np.exp(of_size + _noise(rng, world, timing))
            times[:, ARMS.index(NEW)] *= _ratio(world, number)
            for arm, of_arm in zip(ARMS, times.T, strict=True):
                rounds = {launch * LAUNCH_STRIDE + index: time for index, time in enumerate(of_arm.tolist())}
                cells.setdefault((case(8 * 2**number), timing, arm), {}).update(rounds)
    return compare_arms(
        ComparableRun(name="simulated", arms=(BASE, NEW), cells=cells), Limits(default=DEFAULT_THRESHOLD)
    )


def _noise(rng: Generator, world: World, timing: Timing) -> np.ndarray:
    """Return the noise of one cell's rounds, as logarithms: a row for each round, a column for each arm."""
    rounds = ROUNDS[timing] if world.launches == 1 else ROUNDS_OF_LAUNCHES
    shape = (rounds, len(ARMS))
    scale = NOISES[timing] / math.sqrt(2)
    noise = rng.standard_t(2, shape) * scale / 2 if world.heavy_tails else rng.normal(0, scale, shape)
    noise += np.cumsum(rng.normal(0, 0.005, (rounds, 1)), axis=0)
    if world.two_speeds and timing in (Timing.EAGER, Timing.ENQUEUE):
        # The speed can also change between two arms of one round, and arms have a random order in each round.
        changes = rng.random(noise.size) < CPU_CHANGES / len(ARMS)
        slow = ((np.cumsum(changes) + rng.integers(2)) % 2 == 1).reshape(shape)
        noise += math.log(CPU_SLOWNESS) * rng.permuted(slow, axis=1)
    return noise


def _ratio(world: World, number: int) -> float:
    return world.ratio(number / max(1, world.sizes - 1))


def describe(runs: Sequence[Sequence[Comparison]], world: World) -> str:
    """Return how many runs have wrong verdicts, and how many cells have the right one.

    A run has no advice if its headline says that nothing is open, and does not ask for new communicators.
    """
    bands = [bands_of(run) for run in runs]
    wrong_bands = sum(any(_wrong(band.verdict, _mean_truth(band, world)) for band in of_run) for of_run in bands)
    silent = sum(
        any(_wrong(band.verdict, _mean_truth(band, world)) for band in of_run)
        and all(band.verdict is not Verdict.INCONCLUSIVE for band in of_run)
        and confirming_step(of_run, Basis.ROUNDS, {}) == ("", "")
        for of_run in bands
    )
    wrong_sizes = sum(any(_wrong(each.verdict, _truth(each, world)) for each in run) for run in runs)
    hidden = sum(
        any(_hidden(band.verdict, _truth(each, world)) for band in of_run for each in band.comparisons)
        for of_run in bands
    )
    cells = sum(map(len, runs))
    by_band = [(band.verdict, each) for of_run in bands for band in of_run for each in band.comparisons]
    right_bands = sum(verdict is _right(_truth(each, world)) for verdict, each in by_band)
    right_sizes = sum(each.verdict is _right(_truth(each, world)) for run in runs for each in run)
    number = sum(map(len, bands)) / len(runs)
    by_timing = _hidden_by_timing([band for of_run in bands for band in of_run], world)
    return (
        f"wrong bands in {wrong_bands / len(runs):.1%} of runs (without advice "
        f"{silent / len(runs):.1%}), wrong sizes in {wrong_sizes / len(runs):.1%}, "
        f"a hidden size in {hidden / len(runs):.1%}; right {right_bands / cells:.1%} of cells by band, "
        f"{right_sizes / cells:.1%} by size; {number:.1f} bands{by_timing}"
    )


def _hidden_by_timing(bands: Sequence[Band], world: World) -> str:
    """Return the share of the sizes that differ from 1 by more than the threshold and are hidden, by timing."""
    ratios = [_ratio(world, number) for number in range(world.sizes)]
    if len({*ratios}) == 1:
        return ""
    texts = []
    for timing in world.timings:
        of_timing = [band for band in bands if band.timing is timing]
        truths = [(band.verdict, _truth(each, world)) for band in of_timing for each in band.comparisons]
        hidden = [_hidden(verdict, truth) for verdict, truth in truths if abs(truth - 1) > DEFAULT_THRESHOLD]
        stated = [band.hidden_change for band in of_timing if band.hidden_change is not None]
        texts.append(f"{timing} {sum(hidden) / len(hidden):.1%} (up to {median(stated or [0]):.1%})")
    if len(ratios) - ratios.count(1.0) == 1:
        more = sum(
            _wrong(band.verdict, truth) and abs(truth - 1) > (band.hidden_change or 0)
            for band in bands
            for truth in (_truth(each, world) for each in band.comparisons)
        )
        texts.append(f"more than that in {more} bands")
    return f"; hidden: {', '.join(texts)}"


def _truth(comparison: Comparison, world: World) -> float:
    return _ratio(world, int(math.log2(comparison.case.size_bytes / 8)))


def _mean_truth(band: Band, world: World) -> float:
    return math.exp(math.fsum(math.log(_truth(each, world)) for each in band.comparisons) / len(band.comparisons))


def _right(truth: float) -> Verdict:
    if truth > 1 + DEFAULT_THRESHOLD:
        return Verdict.SLOWER
    return Verdict.FASTER if truth < 1 - DEFAULT_THRESHOLD else Verdict.EQUIVALENT


def _wrong(verdict: Verdict | None, truth: float) -> bool:
    return verdict not in (_right(truth), Verdict.INCONCLUSIVE)


def _hidden(verdict: Verdict | None, truth: float) -> bool:
    distance = {
        Verdict.FASTER: truth - (1 - DEFAULT_THRESHOLD),
        Verdict.SLOWER: 1 + DEFAULT_THRESHOLD - truth,
        Verdict.EQUIVALENT: abs(truth - 1) - DEFAULT_THRESHOLD,
    }
    return verdict in distance and distance[verdict] >= DEFAULT_THRESHOLD


if __name__ == "__main__":
    main()
