"""The time that a call saves: from times of the same round, so that two speeds of a CPU are not mixed."""

from __future__ import annotations

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.catalog.timings import Timing
from tests.support.synthetic_runs import case, run, samples

FAST, SLOW = 10.0, 15.0


def test_saved_time_does_not_mix_fast_and_slow_rounds() -> None:
    # The candidate needs 90 % of the baseline's time in every round. One of its fast rounds was discarded, so that its
    # median is that of a slow round.
    speeds = (FAST,) * 8 + (SLOW,) * 7
    kept = tuple(range(2, 15))
    lines = [
        samples("dedicated-stream", Timing.EAGER, case=case(8), samples_us=speeds),
        samples(
            "stream-free",
            Timing.EAGER,
            case=case(8),
            samples_us=tuple(0.9 * speeds[at] for at in kept),
            rounds=kept,
        ),
    ]
    (comparison,) = Analysis.of(run(lines, arms=["dedicated-stream", "stream-free"])).comparisons
    assert (comparison.baseline_us, comparison.candidate_us) == (FAST, 0.9 * SLOW)
    assert comparison.saved_us == pytest.approx(0.1 * FAST)
