"""The noise floor: what the twin shows of the difference between two communicators that were made alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from nccl_bench.analysis.cells import Cell
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.variance import CommunicatorVariance, combined
from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.timings import Timing
from tests.support.synthetic_runs import case

BASE = "dedicated-stream"
TWIN = twin_of(BASE)
POINT = (case(8), Timing.GRAPH)


def variance_of(
    twins: Mapping[Timing, Sequence[float]], noise: float = 0.0, process_sets: Mapping[str, int] | None = None
) -> CommunicatorVariance:
    """Return the variance of a run with these ratios of the twin by size, in logarithms; rounds vary by ``noise``."""
    rng = np.random.default_rng(1)
    cells: dict[Cell, dict[int, float]] = {}
    for timing, of_timing in twins.items():
        for number, logarithm in enumerate(of_timing):
            for arm, of_arm in ((BASE, 0.0), (TWIN, logarithm)):
                times = 10 * np.exp(of_arm + rng.normal(0, noise, 20))
                cells[case(8 * 2**number), timing, arm] = dict(enumerate(times.tolist()))
    run = ComparableRun(name="run", arms=(BASE,), cells=cells, process_sets=process_sets or {})
    return CommunicatorVariance(run, BASE)


def floor_of(twins: Sequence[float], sizes: int, **by_timing: Sequence[float]) -> float:
    of_timings = {Timing.GRAPH: twins} | {Timing(name): of_timing for name, of_timing in by_timing.items()}
    floor = variance_of(of_timings).floor(POINT, sizes)
    assert floor is not None
    return floor


def test_the_floor_of_one_size_is_the_same_at_all_sizes_and_above_most_of_the_twin_s_deviations() -> None:
    twins = np.random.default_rng(2).normal(0, 0.01, 28).tolist()
    variance = variance_of({Timing.GRAPH: twins})
    floors = {variance.floor((case(8 * 2**number), Timing.GRAPH), 1) for number in range(28)}
    (floor,) = floors
    assert floor is not None
    assert 0.025 < floor < 0.035
    assert max(map(abs, twins)) < floor


def test_a_longer_band_has_a_lower_floor_if_each_size_deviates_on_its_own() -> None:
    twins = np.random.default_rng(2).normal(0, 0.01, 28).tolist()
    floors = [floor_of(twins, sizes) for sizes in (1, 4, 28)]
    assert floors == sorted(floors, reverse=True)
    assert floors[2] < floors[0] / 2


def test_a_longer_band_has_no_lower_floor_if_all_sizes_deviate_alike() -> None:
    floors = [floor_of([0.02] * 28, sizes) for sizes in (1, 4, 28)]
    assert floors[1] == pytest.approx(floors[2])
    # A single size has the floor of its own kind; that of the run's means, which the others have, is close to it.
    assert floors[0] * 0.94 < floors[2] <= floors[0]
    # One deviation of one communicator is one draw: another one can deviate much more.
    assert floors[0] > 2 * 0.02


def test_the_mean_of_other_timings_counts_where_a_band_has_all_sizes() -> None:
    quiet, loud = [0.0] * 28, [0.02] * 28
    alone = floor_of(quiet, 28)
    assert floor_of(quiet, 28, gated=quiet, eager=quiet) < alone
    assert floor_of(quiet, 28, gated=loud, eager=loud) > 2 * alone


def test_the_usual_mean_of_quiet_machines_does_not_lower_the_floor_of_a_machine_that_is_not_quiet() -> None:
    def factor(of: float) -> float:
        return floor_of([of] * 28, 28, gated=[of] * 28, eager=[of] * 28) / of

    # With the usual mean, the floor of three timings is a smaller multiple of their means.
    assert factor(0.04) > 1.1 * factor(0.005)


def test_rounds_that_vary_are_not_taken_for_communicator_variance() -> None:
    steady, noisy = (variance_of({Timing.ENQUEUE: [0.0] * 28}, noise=noise) for noise in (0.0, 0.08))
    floors = [variance.floor((case(8), Timing.ENQUEUE), 1) for variance in (steady, noisy)]
    assert floors[0] is not None
    assert floors[1] is not None
    # The medians of 20 rounds vary by 2.5 %. The noise floor does not.
    assert floors[1] < floors[0] + 0.02
    # A timing with noisy rounds hardly changes the floor of another timing.
    beside = variance_of({Timing.GRAPH: [0.001] * 28, Timing.ENQUEUE: [0.001] * 28}, noise=0.08)
    floor = beside.floor(POINT, 28)
    assert floor is not None
    assert floor < 0.03


def test_between_processes_the_floor_is_at_least_the_largest_deviation_at_any_size() -> None:
    variance = variance_of({Timing.GRAPH: [0.0, 0.05, 0.0]})
    assert variance.floor(POINT, 3, in_different_processes=True) == pytest.approx(
        max(0.05, variance.floor(POINT, 3) or 0)
    )


def test_a_twin_in_its_own_process_says_nothing_about_timings_without_launch_cost() -> None:
    twins = {Timing.GRAPH: [0.0] * 9, Timing.GATED: [0.0] * 9, Timing.EAGER: [0.3] * 9}
    together, apart = (variance_of(twins, process_sets=sets) for sets in ({BASE: 0, TWIN: 0}, {BASE: 0, TWIN: 1}))
    assert (together.floor(POINT, 9) or 0) > 0.2
    assert (apart.floor(POINT, 9) or 1) < 0.01


def test_without_a_twin_there_is_no_floor() -> None:
    assert variance_of({Timing.GATED: [0.0]}).floor(POINT, 1) is None
    assert (combined(None, None), combined(0.3, None), combined(None, 0.3)) == (
        None,
        math.hypot(0.3, 0.3),
        math.hypot(0.3, 0.3),
    )
    assert combined(0.3, 0.4) == pytest.approx(0.5)
