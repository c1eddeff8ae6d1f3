"""Hints: what would decide the comparisons that are inconclusive."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pytest

from nccl_bench.analysis.bands import OpenReason, bands_of
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.hints import hints
from nccl_bench.analysis.next_step import confirming_step, next_step
from nccl_bench.analysis.statistics import Interval, Verdict
from nccl_bench.catalog.timings import Timing
from tests.support.command_line import spellings
from tests.support.synthetic_comparisons import comparison

FASTER, SLOWER, EQUIVALENT, INCONCLUSIVE = Verdict


def hints_of(
    comparisons: Sequence[Comparison], basis: Basis = Basis.ROUNDS, meta: Mapping[str, object] = {}
) -> list[str]:
    return list(hints(bands_of(comparisons), basis, meta))


def test_too_few_rounds_are_reported_with_the_number_that_an_interval_needs() -> None:
    few = [
        comparison(8, INCONCLUSIVE, interval=None, pairs_needed=11),
        comparison(16, INCONCLUSIVE, interval=None, pairs_needed=12),
    ]
    (hint,) = hints_of([*few, comparison(32)])
    assert hint.startswith("2 comparisons are open because of too few rounds")
    assert "an interval needs 12 rounds. With exactly so many, it spans from the smallest ratio to the largest" in hint
    assert "more rounds than that (--rounds)" in hint


def test_a_difference_below_the_noise_floor_is_reported_with_the_highest_floor() -> None:
    cells = [
        comparison(8, INCONCLUSIVE, 1.04, noise_floor=0.03, reason=OpenReason.WITHIN_NOISE),
        comparison(1024, INCONCLUSIVE, 0.9, noise_floor=0.2, reason=OpenReason.WITHIN_NOISE),
        comparison(16, INCONCLUSIVE, noise_floor=0.9, interval=Interval(low=0.9, high=1.0, error=0.05)),
    ]
    below, wide = hints_of(cells)
    assert below.startswith("2 comparisons are open because the baseline's own twin")
    assert "most for stream-free gated all_reduce 1K: 20 %" in below
    assert wide.startswith("1 comparison is open because the interval")


def test_cells_without_a_twin_have_a_hint_of_their_own() -> None:
    cells = [
        comparison(8, INCONCLUSIVE, 1.3, reason=OpenReason.NO_TWIN),
        comparison(16, INCONCLUSIVE, 1.0, reason=OpenReason.NO_TWIN),
        comparison(32, INCONCLUSIVE, 1.3, noise_floor=0.5, reason=OpenReason.WITHIN_NOISE),
    ]
    twinless, below = hints_of(cells)
    assert twinless.startswith(
        "2 comparisons are open because no twin was measured, so the communicator variance is unknown. "
        "Measure in 5 launches, each with new communicators: --launches 5."
    )
    # The option --launches is refused if another launcher starts the ranks, and 5 is too few after 12.
    attached, launches = {"launch": {"mode": "attached: srun"}}, {"config": {"launches": 12}}
    assert "Measure several runs and give them all to nccl-bench compare." in hints_of(cells, meta=attached)[0]
    assert hints_of(cells, meta=launches)[0].endswith(": --launches 24.")
    assert below.startswith("1 comparison is open because the baseline's own twin")


def test_an_equivalence_below_the_noise_floor_has_a_hint_of_its_own() -> None:
    cells = [
        comparison(8, INCONCLUSIVE, 1.001, noise_floor=0.03, reason=OpenReason.WITHIN_NOISE),
        comparison(64, INCONCLUSIVE, 1.0, noise_floor=0.04, reason=OpenReason.WITHIN_NOISE),
    ]
    (hint,) = hints_of(cells)
    assert hint.startswith("2 comparisons are open although the interval is within the threshold")
    assert "It is highest for stream-free gated all_reduce 8 to 64: 4.0 %." in hint
    assert "differs too" not in hint
    apart = comparison(64, INCONCLUSIVE, 1.1, noise_floor=0.2, reason=OpenReason.WITHIN_NOISE, timing=Timing.EAGER)
    different, same = hints_of([*cells, apart])
    assert different.startswith("1 comparison is open because the baseline's own twin")
    assert same == hint


def test_a_wide_interval_is_reported_with_what_narrows_it() -> None:
    cells = [
        comparison(8, INCONCLUSIVE, interval=Interval(low=0.97, high=1.0, error=0.05)),
        comparison(1024, INCONCLUSIVE, interval=Interval(low=0.8, high=1.4, error=0.05), timing=Timing.EAGER),
    ]
    (hint,) = hints_of(cells)
    assert hint.startswith("2 comparisons are open because the interval crosses the threshold")
    assert "The widest interval is stream-free eager all_reduce 1K: 0.800x to 1.400x, threshold 2.0 %." in hint
    assert "More rounds (--max-rounds" in hint
    assert "More runs or launches (--launches) on each side narrow the interval" in hints_of(cells, Basis.RUNS)[0]
    assert "or several launches on each side (--launches), narrow" in hints_of(cells, Basis.SHARED_ARM)[0]
    # Two digits would not show the width.
    near = comparison(8, INCONCLUSIVE, interval=Interval(low=1.0164, high=1.0222, error=0.05))
    assert "1.016x to 1.022x" in hints_of([near])[0]


def test_the_launches_of_a_wide_interval_are_named_with_their_variance() -> None:
    interval = Interval(low=0.95, high=1.1, error=0.05)
    cells = [
        comparison(8, INCONCLUSIVE, interval=interval, launches=3, communicator_variance=0.012),
        comparison(16, INCONCLUSIVE, interval=None, launches=1, reason=OpenReason.ONE_LAUNCH),
    ]
    alone, wide = hints_of(cells, Basis.LAUNCHES)
    assert "Its ratio differs by 1.2 % from launch to launch. More launches (--launches) narrow the interval." in wide
    assert alone.startswith("1 comparison is open because only one launch measured the ratio.")
    assert "for example stream-free gated all_reduce 16: see the failures" in alone


def test_a_cell_below_the_noise_floor_is_to_be_measured_in_several_launches() -> None:
    below = comparison(8, INCONCLUSIVE, 1.04, noise_floor=0.03, reason=OpenReason.WITHIN_NOISE)
    for basis in (Basis.ROUNDS, Basis.SHARED_ARM):
        assert hints_of([below], basis)[0].endswith("--launches 5.")


def test_a_cell_of_different_processes_has_a_hint_of_its_own() -> None:
    wide = Interval(low=0.8, high=1.4, error=0.05)
    cells = [
        comparison(8, INCONCLUSIVE, 1.4, reason=OpenReason.DIFFERENT_PROCESSES, timing=Timing.ENQUEUE),
        comparison(16, INCONCLUSIVE, interval=wide, reason=OpenReason.DIFFERENT_PROCESSES, timing=Timing.ENQUEUE),
        comparison(
            32, INCONCLUSIVE, interval=None, pairs_needed=11, reason=OpenReason.DIFFERENT_PROCESSES, timing=Timing.EAGER
        ),
    ]
    (hint,) = hints_of(cells)
    assert hint == (
        "3 comparisons are open (enqueue, eager) because the arms ran in different processes, whose CPU speed "
        "differs. Measure in 5 launches, each with new communicators: --launches 5."
    )
    assert hints_of(cells, Basis.SHARED_ARM)[0].endswith(
        "differs. Measure each side with new communicators: --launches 5."
    )


def test_the_flags_that_hints_recommend_exist() -> None:
    few = comparison(8, INCONCLUSIVE, interval=None, pairs_needed=11)
    wide = comparison(8, INCONCLUSIVE, interval=Interval(low=0.9, high=1.1, error=0.05))
    flags = {flag for text in hints_of([few, wide]) for flag in re.findall(r"--[a-z-]+", text)}
    assert flags
    assert flags <= spellings("run")


@pytest.mark.parametrize("basis", [Basis.ROUNDS, Basis.SHARED_ARM, Basis.RUNS])
def test_no_advice_to_ranks_of_another_launcher_needs_new_launches(basis: Basis) -> None:
    wide = Interval(low=0.8, high=1.4, error=0.05)
    cells = [comparison(8, INCONCLUSIVE, interval=wide), comparison(32, INCONCLUSIVE, interval=None, pairs_needed=11)]
    cells += [comparison(16, INCONCLUSIVE, 1.3, noise_floor=0.5, reason=reason) for reason in OpenReason]
    slower = [comparison(8, SLOWER, 1.06, noise_floor=0.012)]
    texts = [
        [
            *hints_of(cells, basis, meta),
            *next_step(bands_of(cells), basis, meta),
            *confirming_step(bands_of(slower), basis, meta),
        ]
        for meta in ({"launch": {"mode": mode}} for mode in ("torchrun", "attached: srun"))
    ]
    launched, attached = ("\n".join(each) for each in texts)
    assert "--launches" in launched
    assert "--launches" not in attached


def test_decided_comparisons_and_comparisons_without_verdicts_have_no_hint() -> None:
    assert hints_of([comparison(8, FASTER), comparison(16, SLOWER), comparison(32, EQUIVALENT)]) == []
    assert hints_of([comparison(8, None, interval=None)], Basis.NOTHING) == []
