"""The times of rounds: all of them, or of a long run the extremes and rounds at equal distances."""

from __future__ import annotations

from nccl_bench.analysis.rounds import round_times
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.schema import Samples
from tests.support.synthetic_runs import case, run, samples

ROUNDS = 100


def line(arm: str, times_us: list[float], **changes: object) -> Samples:
    return samples(
        arm, **{"case": case(8), "samples_us": tuple(times_us), "rounds": tuple(range(len(times_us)))} | changes
    )


def test_a_short_run_keeps_every_round() -> None:
    lines = [line("a", [1.0, 2.0, 3.0]), line("b", [4.0, 5.0], rounds=(0, 2))]
    (times,) = round_times(run(lines).samples, {"a", "b"}, most=1000)
    assert (times.case, times.timing, times.count) == (case(8), Timing.GATED, 3)
    assert times.positions == (0, 1, 2)
    # The second batch of the second arm was discarded.
    assert times.times_us == {"a": (1.0, 2.0, 3.0), "b": (4.0, None, 5.0)}


def test_a_long_run_keeps_rounds_at_equal_distances_and_the_extremes_of_the_arm_that_varies_most() -> None:
    first, second = [10.0] * ROUNDS, [20.0] * ROUNDS
    first[33], first[77], second[55] = 99.0, 1.0, 30.0
    (times,) = round_times(run([line("a", first), line("b", second)]).samples, {"a", "b"}, most=20)
    assert times.count == ROUNDS
    assert times.positions == (0, 10, 20, 30, 33, 40, 50, 60, 70, 77, 80, 90)
    assert times.times_us["a"] == tuple(first[at] for at in times.positions)
    assert times.times_us["b"] == (20.0,) * 12


def test_twins_and_lines_without_times_are_left_out() -> None:
    lines = [line("a", [1.0]), line("a:twin", [2.0]), samples("b", case=case(16), samples_us=(), rounds=())]
    (times,) = round_times(run(lines).samples, {"a", "b"}, most=100)
    assert list(times.times_us) == ["a"]
