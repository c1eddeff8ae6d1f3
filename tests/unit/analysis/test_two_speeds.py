"""Cells whose rounds come in two speeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.two_speeds import TwoSpeeds, two_speeds
from nccl_bench.catalog.timings import Timing
from tests.support.synthetic_runs import case, run, samples


def planted(slow_rounds: int = 8) -> tuple[float, ...]:
    """Return 20 times in shuffled order, of which some are those of a slow CPU."""
    rng = np.random.default_rng(0)
    times = np.where(np.arange(20) < slow_rounds, 21.0, 14.0) * rng.normal(1, 0.02, 20)
    return tuple(float(time) for time in rng.permutation(times))


def speeds_of(samples_us: Sequence[float]) -> TwoSpeeds | None:
    return two_speeds(np.array([samples_us]))[0]


def test_planted_speeds_are_found() -> None:
    speeds = speeds_of(planted())
    assert speeds is not None
    assert (speeds.fast_us, speeds.slow_us) == (pytest.approx(14, rel=0.03), pytest.approx(21, rel=0.03))


def test_noise_outliers_and_few_rounds_are_not_two_speeds() -> None:
    rng = np.random.default_rng(1)
    assert speeds_of(planted()[:8]) is None
    assert speeds_of(planted(slow_rounds=2)) is None
    assert speeds_of((14.0,) * 20) is None
    noise = two_speeds(rng.normal(14, 2, (200, 20)))
    assert sum(each is not None for each in noise) <= 2


def test_a_run_with_two_speeds_has_one_warning_that_its_ratios_stand() -> None:
    sizes = (8, 16, 32)
    made_up = run([samples(timing=Timing.EAGER, case=case(size), samples_us=planted()) for size in sizes])
    (text,) = (text for text in Analysis.of(made_up).warnings if "Rounds differ" in text)
    worst = "stream-free eager all_reduce bfloat16 8: 13.8 and 21.1 us. "
    assert f"in 3 cells, and in 3 of them they come in two speeds, most clearly for {worst}" in text
    assert "Within one run, ratios stand: they compare times of the same round." in text
    assert "less exact" not in text
