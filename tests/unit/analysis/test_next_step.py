"""What would decide the comparisons that are open, and how sure the decided ones are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from nccl_bench.analysis.bands import OpenReason, bands_of
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.next_step import confidence_text, confirming_step, duration_text, moved_step, next_step
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.catalog.timings import Timing
from tests.support.synthetic_comparisons import comparison

_, SLOWER, EQUIVALENT, INCONCLUSIVE = Verdict


def test_one_size_in_one_timing_that_is_open_by_its_noise_floor_needs_five_launches() -> None:
    bands = bands_of([comparison(8, INCONCLUSIVE, 1.05, noise_floor=0.04, reason=OpenReason.WITHIN_NOISE)])
    assert next_step(bands, Basis.ROUNDS, {}) == (
        "Measure in 5 launches, each with new communicators",
        "--launches 5",
    )
    # Without a decided verdict there is nothing to be sure of.
    assert confidence_text(bands, Basis.ROUNDS) == ""


def test_a_difference_that_one_twin_in_one_timing_decides_by_a_small_margin_needs_five_launches() -> None:
    slower, same = comparison(8, SLOWER, 1.06, noise_floor=0.012), comparison(16, EQUIVALENT, noise_floor=0.012)
    bands = bands_of([slower, same])
    assert confirming_step(bands, Basis.ROUNDS, {}) == (
        "nothing is open, but one twin in one timing decides 1 of 2 comparisons, by a small margin. Measure in 5 "
        "launches, each with new communicators",
        "--launches 5",
    )
    assert "no verdict is wrong, as far as one twin in one timing shows;" in confidence_text(bands, Basis.ROUNDS)


@pytest.mark.parametrize(
    ("cells", "basis"),
    [
        ([comparison(8, SLOWER, 1.3, noise_floor=0.012)], Basis.ROUNDS),
        ([comparison(8, EQUIVALENT, noise_floor=0.012)], Basis.ROUNDS),
        ([comparison(8, SLOWER, 1.06)], Basis.LAUNCHES),
        (
            [comparison(8, SLOWER, 1.06, noise_floor=0.012), comparison(8, EQUIVALENT, timing=Timing.GRAPH)],
            Basis.ROUNDS,
        ),
    ],
    ids=["a clear difference", "no difference", "five launches", "two timings"],
)
def test_verdicts_that_do_not_rest_on_one_twin_need_nothing_more(cells: list[Comparison], basis: Basis) -> None:
    assert confirming_step(bands_of(cells), basis, {}) == ("", "")
    assert "one twin" not in confidence_text(bands_of(cells), basis)


def test_more_rounds_than_the_limit_of_the_run_raise_the_limit() -> None:
    few = bands_of([comparison(8, INCONCLUSIVE, interval=None, pairs_needed=11)])
    assert next_step(few, Basis.ROUNDS, {"config": {"max_rounds": 10}})[1] == "--rounds 22 --max-rounds 22"
    assert next_step(few, Basis.ROUNDS, {"config": {"max_rounds": 100}})[1] == "--rounds 22"


@pytest.mark.parametrize(
    ("sizes", "begin"),
    [((8,), "1 comparison stays open however"), ((8, 16), "2 comparisons stay open however")],
)
def test_the_next_step_counts_the_comparisons_that_more_rounds_cannot_decide(sizes: Sequence[int], begin: str) -> None:
    moved = [comparison(size, INCONCLUSIVE, 1.1, reason=OpenReason.SHARED_ARM_MOVED) for size in sizes]
    noisy = [comparison(size, INCONCLUSIVE, 1.1, reason=OpenReason.WITHIN_NOISE) for size in (32, 64, 128)]
    assert moved_step(bands_of([*moved, *noisy])).startswith(begin)
    assert not moved_step(bands_of(noisy))


def test_a_machine_that_changed_between_two_runs_calls_for_one_run_and_not_for_more_rounds() -> None:
    moved = comparison(8, INCONCLUSIVE, 1.1, reason=OpenReason.SHARED_ARM_MOVED)
    assert next_step(bands_of([moved]), Basis.SHARED_ARM, {}) == (
        "The machine changed between the runs. Measure both versions in one run (--before-tree, --after-tree)",
        "",
    )


@pytest.mark.parametrize(
    ("basis", "meta", "what", "options"),
    [
        (Basis.LAUNCHES, {"config": {"launches": 3}}, "more launches", "--launches 10"),
        (Basis.LAUNCHES, {"config": {"launches": 12}}, "more launches", "--launches 24"),
        # The option --launches is refused if another launcher starts the ranks.
        (
            Basis.ROUNDS,
            {"launch": {"mode": "attached: srun"}},
            "several runs and give them all to nccl-bench compare",
            "",
        ),
        (
            Basis.SHARED_ARM,
            {"launch": {"mode": "attached: srun"}},
            "several runs of each side and give them all to nccl-bench compare",
            "",
        ),
    ],
)
def test_noise_calls_for_more_launches_than_the_run_had(
    basis: Basis, meta: dict[str, Any], what: str, options: str
) -> None:
    noisy = comparison(8, INCONCLUSIVE, 1.1, reason=OpenReason.WITHIN_NOISE, interval=None)
    assert next_step(bands_of([noisy]), basis, meta) == (f"Measure {what}", options)


def test_the_next_runs_take_as_long_as_the_run_before_for_each_launch_and_each_of_them() -> None:
    meta = {"status": "complete", "started": "2026-10-01T02:00:00", "finished": "2026-10-01T02:06:00"}
    meta_of_two = {**meta, "config": {"launches": 2}}
    assert duration_text(meta_of_two, "--launches 5") == " (about 15 min)"
    assert duration_text(meta_of_two, "--launches 5", runs=2) == " (about 30 min)"
    assert duration_text(meta, "--max-rounds 240 --max-seconds 120") == " (at most about 24 min)"
    assert duration_text({**meta, "status": "killed"}, "--launches 5") == ""
