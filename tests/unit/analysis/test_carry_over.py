"""Carry-over from one arm to the next: planted effects are found, and clean runs have none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.carry_over import CarryOver, find_carry_over
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples
from tests.support.carry_over_runs import Planted, simulated_run

ARMS = ("baseline", "first", "second", "third", "baseline:twin")
TIMINGS = (Timing.EAGER, Timing.GATED)
PLANTED = Planted(arm="first", predecessor="third", timing=Timing.GATED, effect=0.1, sizes=8)


def found(run: Run, threshold: float = 0.02) -> list[CarryOver]:
    return find_carry_over(run, Limits(default=threshold))


def run_with(
    seed: int, planted: Planted | None = None, rounds: int = 20, launches: int = 1, arms: Sequence[str] = ARMS
) -> Run:
    rng = np.random.default_rng(seed)
    return simulated_run(rng, arms, TIMINGS, sizes=16, rounds=rounds, launches=launches, planted=planted)


@pytest.mark.parametrize(("rounds", "launches"), [(20, 1), (8, 5)])
@pytest.mark.parametrize("effect", [0.1, -0.08])
def test_a_planted_effect_is_found_with_its_arm_its_predecessor_and_its_size(
    rounds: int, launches: int, effect: float
) -> None:
    planted = replace(PLANTED, effect=effect)
    (carry_over,) = found(run_with(1, planted, rounds, launches))
    assert planted.explains(carry_over)
    # The sizes around those with the effect can belong to what was found.
    assert 0.02 < carry_over.effect / math.copysign(1, effect) < 0.13
    sizes = [case.size_bytes for case in carry_over.cases]
    assert sizes == sorted(sizes)
    assert {8 * 2**number for number in range(6, 13)} & set(sizes)


def test_an_effect_below_the_threshold_does_not_matter() -> None:
    run = run_with(2, replace(PLANTED, effect=0.05, sizes=16), rounds=60)
    assert len(found(run, 0.02)) == 1
    assert found(run, 0.15) == []


def test_three_arms_name_the_right_pair() -> None:
    """A slower arm of three also changes how the others compare with the rest of their round."""
    planted = Planted(arm="first", predecessor="baseline", timing=Timing.GATED, effect=0.1, sizes=16)
    (carry_over,) = found(run_with(3, planted, rounds=40, arms=("baseline", "first", "baseline:twin")))
    assert planted.explains(carry_over)


def test_clean_runs_have_no_carry_over() -> None:
    """At most one run in 100 may have a finding. ``tests.experiments.carry_over`` tries more."""
    assert [found(run_with(seed)) for seed in range(20)] == [[]] * 20


def test_a_discarded_predecessor_and_older_records_are_no_evidence() -> None:
    run = run_with(1, PLANTED)
    lines = [line for line in run.lines if isinstance(line, Samples)]
    assert found(replace(run, lines=tuple(line for line in lines if line.arm != "third"))) == []
    assert found(replace(run, lines=tuple(replace(line, arms_before=()) for line in lines))) == []


def test_times_that_are_all_equal_are_no_evidence() -> None:
    run = run_with(1)
    lines = [line for line in run.lines if isinstance(line, Samples)]
    assert (
        found(replace(run, lines=tuple(replace(line, samples_us=(10.0,) * len(line.rounds)) for line in lines))) == []
    )


def test_the_warning_names_the_arm_its_predecessor_and_what_to_try() -> None:
    (warning,) = (text for text in Analysis.of(run_with(1, PLANTED)).warnings if "right after" in text)
    assert warning.startswith("first is ")
    assert (
        " % slower right after third than right after other arms, in gated all_reduce bfloat16 sum in-place " in warning
    )
    assert "Measure without third (--arms)" in warning
    assert not [text for text in Analysis.of(run_with(1)).warnings if "right after" in text]
