"""The rows of the summary."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.one_run import compare_arms
from nccl_bench.analysis.rows import rows_of
from nccl_bench.analysis.summary import COLUMNS, Row
from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.throttling import ThrottleReason
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits
from nccl_bench.records.schema import Line, Skipped, Status
from tests.support.synthetic_runs import case, crash, gpus, hang, imported, per_iteration, run, samples, sweep, wrong

BASELINE = "dedicated-stream"


def only(*lines: Line) -> Row:
    """Return the row of the last line."""
    return rows_of(run(lines))[-1]


def test_the_columns_have_a_meaning_and_a_value_for_each_row() -> None:
    columns = rows_of(run(sweep(sizes=(8, 1024)))).columns()
    assert list(columns) == list(COLUMNS)
    assert all(COLUMNS.values())
    assert {*map(len, columns.values())} == {2 * 4 * 4}


def test_a_ratio_pairs_times_of_the_same_round() -> None:
    # The machine slowed down tenfold after round 1. Medians over all rounds would give 2 / 10 or 20 / 10.
    baseline = samples(BASELINE, rounds=(0, 1, 2, 3, 4), samples_us=(1.0, 1.0, 10.0, 10.0, 10.0))
    row = only(baseline, samples("torch", rounds=(0, 1, 2), samples_us=(2.0, 2.0, 20.0)))
    assert row.time_us == 2.0
    assert row.ratio == pytest.approx(2.0)


def test_a_ratio_uses_only_rounds_that_both_kept() -> None:
    row = only(
        samples(BASELINE, rounds=(5, 1), samples_us=(10.0, 1.0)),
        samples("torch", rounds=(1, 2, 3), samples_us=(3.0, 50.0, 60.0)),
    )
    assert row.ratio == pytest.approx(3.0)


def test_the_ratio_of_a_row_is_that_of_its_comparison_also_for_even_rounds() -> None:
    even = run(
        [
            samples(BASELINE, rounds=(0, 1), samples_us=(1.0, 1.0)),
            samples("torch", rounds=(0, 1), samples_us=(1.0, 4.0)),
        ]
    )
    (comparison,) = compare_arms(ComparableRun.of(even, "even"), Limits(default=0.05))
    assert rows_of(even)[-1].ratio == comparison.ratio == pytest.approx(2.0)


def test_a_twin_has_a_ratio_without_a_comparison() -> None:
    assert only(samples(BASELINE), samples(twin_of(BASELINE))).ratio == pytest.approx(1.0)


@pytest.mark.parametrize(
    "lines",
    [
        [samples(BASELINE)],
        [samples("torch")],
        [samples(BASELINE, rounds=(7, 8, 9)), samples("torch")],
        [samples(BASELINE, timing=Timing.EAGER), samples("torch")],
        [samples(BASELINE, case=case(8)), samples("torch")],
        [samples(BASELINE, status=Status.WRONG, wrong=1), samples("torch")],
        [samples(BASELINE), samples("torch", status=Status.WRONG, wrong=1)],
    ],
    ids=["baseline itself", "no baseline", "no round", "other timing", "other case", "baseline wrong", "arm wrong"],
)
def test_without_a_common_round_there_is_no_ratio(lines: list[Line]) -> None:
    assert only(*lines).ratio is None


def test_statistics_of_samples() -> None:
    row = only(samples(samples_us=(5.0, 1.0, 2.0, 4.0, 3.0), fastest_rank_us=(1.0, 0.5, 1.0, 1.0, 1.0)))
    assert (row.min_us, row.q1_us, row.time_us, row.q3_us, row.max_us) == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert row.rank_spread_us == 2.0
    assert only(samples(samples_us=(5.0,))).q1_us == 5.0


def test_the_slowest_rank_is_the_most_frequent_one() -> None:
    row = only(samples(slowest_rank=(3, 1, 3)))
    assert row.slowest_rank == 3
    assert row.slowest_rank_share == pytest.approx(2 / 3)


def test_columns_that_an_import_cannot_know_are_absent() -> None:
    row = only(imported(per_iteration=replace(per_iteration(), p90_us=None)))
    assert (row.time_us, row.p50_us, row.p99_us) == (8.4, 11.22, 33.3)
    absent = {"rank_spread_us", "slowest_rank", "slowest_rank_share", "tolerance_ulp", "p90_us"}
    assert absent.isdisjoint(row.present())


def test_bandwidth_follows_the_collectives_table() -> None:
    row = only(samples(case=case(1_000_000), samples_us=(10.0,)))
    assert row.algbw_gb_s == pytest.approx(100.0)
    assert row.busbw_gb_s == pytest.approx(100.0 * 2 * 3 / 4)


def test_enqueue_has_no_bandwidth() -> None:
    row = only(samples(timing=Timing.ENQUEUE))
    assert row.time_us is not None
    assert row.algbw_gb_s is None
    assert row.busbw_gb_s is None


def test_columns_that_were_not_measured_are_absent_and_not_zero() -> None:
    row = only(wrong())
    assert (row.status, row.wrong) == ("wrong", 12)
    assert {"time_us", "rounds", "ops_per_batch", "discarded", "ratio", "busbw_gb_s"}.isdisjoint(row.present())
    assert {"wrong", "tolerance_ulp"}.isdisjoint(only(samples(wrong=None)).present())
    assert only(samples(wrong=0)).present()["wrong"] == 0


def test_cases_without_samples_have_rows() -> None:
    rows = rows_of(run([Skipped(case=case(), reason="large"), hang(), crash(case=None)]))
    assert [(row.status, row.size_bytes, row.arm, row.timing) for row in rows] == [
        ("skipped", 1024, None, None),
        ("hang", 1024, "torch", None),
        ("crash", None, "torch-async", None),
    ]


def test_percentiles_are_there_only_where_measured() -> None:
    row = only(samples(per_iteration=per_iteration()))
    assert (row.p50_us, row.p90_us, row.p99_us, row.per_iteration_cost_us) == (11.22, 14.8, 33.3, 2.75)
    assert only(samples()).p50_us is None
    free = only(samples(per_iteration=replace(per_iteration(), cost_us=None)))
    assert free.p50_us == 11.22
    assert "per_iteration_cost_us" not in free.present()


def test_the_state_of_the_gpus_is_in_the_columns() -> None:
    reasons = (ThrottleReason.POWER_CAP, ThrottleReason.POWER_BRAKE, ThrottleReason.APPLICATION_CLOCKS)
    row = only(samples(gpus=gpus(throttle_reasons=reasons, throttled_rank=0, throttled_share=0.5)))
    assert (row.sm_clock_mhz, row.memory_clock_mhz, row.temperature_c, row.power_w) == (1980, 3201, 41, 310.5)
    assert (row.throttled, row.throttled_rank, row.throttled_share) == ("power cap, power brake", 0, 0.5)
    quiet = only(samples(gpus=gpus())).present()
    assert "sm_clock_mhz" in quiet
    assert not {"throttled", "throttled_share", "throttled_rank", "other_process", "other_process_rank"} & quiet.keys()
