"""Simulated runs, with or without an arm whose time depends on the arm that was measured right before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from nccl_bench.analysis.carry_over import CarryOver
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Line
from tests.support.synthetic_runs import case, run, samples

# The slow speed of the CPU, relative to the fast one, and how often the speed changes, for each round.
CPU_SLOWNESS, CPU_CHANGES = 1.5, 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """An effect of one arm on its successor."""

    arm: str  # the arm that becomes slower
    predecessor: str  # the arm before it
    timing: Timing  # the only timing with the effect
    effect: float  # the share by which the arm becomes slower
    sizes: int  # the number of neighbouring sizes with the effect; unless these are all, they begin at the sixth size

    def numbers(self, sizes: int) -> range:
        """Return the numbers of the sizes with the effect, of ``sizes`` sizes."""
        first = 0 if self.sizes == sizes else 5
        return range(first, first + self.sizes)

    def explains(self, effect: CarryOver) -> bool:
        """Return True if ``effect``, which the search found, is this planted effect."""
        return (effect.arm, effect.predecessor, effect.timing) == (self.arm, self.predecessor, self.timing)


def simulated_run(
    rng: Generator,
    arms: Sequence[str],
    timings: Sequence[Timing],
    *,
    sizes: int,
    rounds: int,
    launches: int = 1,
    planted: Planted | None = None,
) -> Run:
    """Return a run whose rounds vary and drift; in `eager` the CPU also changes between two speeds."""
    lines: list[Line] = []
    for launch in range(1, launches + 1):
        for number in range(sizes):
            for timing in timings:
                order = np.array([rng.permutation(len(arms)) for _ in range(rounds)])
                noise = math.exp(rng.uniform(math.log(0.005), math.log(0.05))) / math.sqrt(2)
                drift = np.cumsum(rng.normal(0, 0.005, (rounds, 1)), axis=0)
                logarithms = rng.normal(0, noise, (rounds, len(arms))) + drift
                if timing is Timing.EAGER:
                    changes = rng.random(rounds * len(arms)) < CPU_CHANGES / len(arms)
                    slow = ((np.cumsum(changes) + rng.integers(2)) % 2).reshape(rounds, len(arms))
                    logarithms += slow * math.log(CPU_SLOWNESS)
                if planted and timing is planted.timing and number in planted.numbers(sizes):
                    after = order[:, :-1] == arms.index(planted.predecessor)
                    before = order[:, 1:] == arms.index(planted.arm)
                    logarithms[:, 1:] += (after & before) * math.log1p(planted.effect)
                for index, arm in enumerate(arms):
                    round_numbers, places = np.nonzero(order == index)
                    times = 10 * np.exp(logarithms[round_numbers, places])
                    lines.append(
                        samples(
                            arm,
                            timing,
                            case=case(8 * 2**number),
                            samples_us=tuple(times.tolist()),
                            arms_before=tuple(places.tolist()),
                            launch=launch,
                        )
                    )
    return run(lines, arms=[arm for arm in arms if ":" not in arm], baseline=arms[0], launches=launches)
