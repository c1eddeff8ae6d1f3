"""The benchmark's loop on two real ranks: both visit the same cases in the same order and agree on every batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from nccl_bench.bench.measure import LONGEST_GATE
from nccl_bench.bench.stopping import ROUNDS_PER_BLOCK
from nccl_bench.records.schema import Line, Samples, Skipped, Status, from_json
from tests.support.bench_runs import MEASURED
from tests.support.bench_worker import SKEW_US
from tests.support.rank_processes import run_ranks

Reports = list[dict[str, Any]]
TIMINGS = ("eager", "gated", "enqueue")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    return run_ranks("tests.support.bench_worker", 2, tmp_path_factory.mktemp("bench"))


Lines = Callable[[str], list[Line]]


@pytest.fixture(scope="module")
def lines(reports: Reports) -> Lines:
    """Return a function that reads the lines of a run by name, as the record's reader does."""
    return lambda name: [from_json(line) for line in reports[0][name]["lines"]]


def samples(lines: list[Line]) -> list[Samples]:
    measured = [line for line in lines if isinstance(line, Samples)]
    assert len(measured) == len(lines)
    return measured


def test_all_ranks_visit_the_same_phases_in_the_same_order(reports: Reports) -> None:
    names = [name for name in reports[0] if "visits" in reports[0][name]]
    assert len(names) == 23
    for name in names:
        assert reports[0][name]["visits"] == reports[1][name]["visits"], name


def test_every_rank_has_the_same_lines(reports: Reports) -> None:
    names = [name for name in reports[0] if "lines" in reports[0][name]]
    assert [reports[0][name]["lines"] for name in names] == [reports[1][name]["lines"] for name in names]


def test_a_run_has_a_line_for_every_case_timing_and_arm(lines: Lines) -> None:
    measured = samples(lines("unchanged"))
    keys = [(line.case.size_bytes, line.timing, line.arm) for line in measured]
    assert keys == list(itertools.product((8, 1024), TIMINGS, MEASURED))
    for line in measured:
        assert (line.status, line.wrong, line.tolerance_ulp) == (Status.OK, 0, 0)
        assert (line.world_size, line.ops_per_batch) == (2, 8)
        assert len(line.rounds) + line.discarded >= 5
        assert list(line.rounds) == sorted(set(line.rounds))
        assert all(0 < low <= high for low, high in zip(line.fastest_rank_us, line.samples_us, strict=True))
        assert set(line.slowest_rank) <= {0, 1}
        assert line.arena.slots == 500


def test_only_timings_with_events_have_percentiles_of_single_operations(lines: Lines) -> None:
    for line in samples(lines("unchanged")):
        if line.timing == "enqueue":
            assert line.per_iteration is None
        elif line.per_iteration is None:
            # On a busy machine every batch of a gated timing may have been discarded.
            assert line.timing == "gated"
        else:
            percentiles = line.per_iteration
            assert percentiles.operations >= 20
            assert percentiles.min_us <= percentiles.p50_us <= percentiles.p90_us
            assert percentiles.p90_us <= percentiles.p99_us <= percentiles.max_us


def test_a_round_visits_every_arm_once_in_an_order_of_its_own(reports: Reports) -> None:
    visits = reports[0]["unchanged"]["visits"]
    orders = {}
    for case_index, timing in itertools.product((0, 1), TIMINGS):
        arms = [arm for index, arm, phase in visits if (index, phase) == (case_index, timing)]
        rounds = [tuple(arms[at : at + len(MEASURED)]) for at in range(0, len(arms), len(MEASURED))]
        assert len(rounds) >= 5
        assert {tuple(sorted(order)) for order in rounds} == {tuple(sorted(MEASURED))}
        orders[case_index, timing] = rounds[:5]
    assert len({order for rounds in orders.values() for order in rounds}) > 3
    assert len({tuple(rounds) for rounds in orders.values()}) == len(orders)


def test_a_case_is_checked_then_piloted_then_timed_and_checked_again(reports: Reports) -> None:
    visits = reports[0]["unchanged"]["visits"]
    for case_index in (0, 1):
        # A check has a second part, in which a rank waits for its calls.
        all_phases = [phase.removesuffix(", waiting") for index, _, phase in visits if index == case_index]
        phases = [phase for phase, _ in itertools.groupby(all_phases)]
        assert phases == [
            "memory",
            "check before timing",
            # The code paths of the arms are recorded once for each collective.
            *(["trace"] if case_index == 0 else []),
            "pilot",
            "eager",
            "eager per iteration",
            "check after eager",
            "gated",
            "gated per iteration",
            "check after gated",
            "enqueue",
            "check after enqueue",
        ]


def test_a_run_can_begin_with_a_later_case(reports: Reports, lines: Lines) -> None:
    assert {line.case.size_bytes for line in samples(lines("from the second case"))} == {1024}
    assert {index for index, _, _ in reports[0]["from the second case"]["visits"]} == {1}


def test_without_the_check_results_have_no_count_of_wrong_elements(reports: Reports, lines: Lines) -> None:
    measured = samples(lines("unchecked"))
    assert [(line.arm, line.wrong, line.status) for line in measured] == [(arm, None, Status.OK) for arm in MEASURED]
    assert not [phase for _, _, phase in reports[0]["unchecked"]["visits"] if "check" in phase]


def test_with_the_same_buffer_there_is_one_slot_and_the_check_still_runs(lines: Lines) -> None:
    measured = samples(lines("same buffer"))
    assert [(line.arena.slots, line.wrong, line.ops_per_batch) for line in measured] == [(1, 0, 8)] * len(MEASURED)


def test_on_the_default_stream_there_is_only_eager_timing(lines: Lines) -> None:
    measured = samples(lines("default stream"))
    assert [(line.timing, line.arm, line.wrong) for line in measured] == [("eager", arm, 0) for arm in MEASURED]


# Wrong results


def test_a_wrong_arm_is_recorded_and_only_the_other_arms_are_timed(reports: Reports, lines: Lines) -> None:
    measured = samples(lines("wrong from the start"))
    wrong = [line for line in measured if line.status is Status.WRONG]
    assert [(line.arm, line.timing) for line in wrong] == [("torch", timing) for timing in TIMINGS]
    for line in wrong:
        # Every element of the four checked slots of 512, on both ranks.
        assert line.wrong == 2 * 4 * 512
        assert (line.rounds, line.samples_us, line.discarded, line.ops_per_batch) == ((), (), 0, 0)
    right = [line for line in measured if line.status is Status.OK]
    assert len(right) == 3 * len(TIMINGS)
    assert all(line.wrong == 0 and len(line.rounds) + line.discarded >= 3 for line in right)
    timed = {arm for _, arm, phase in reports[0]["wrong from the start"]["visits"] if phase in (*TIMINGS, "pilot")}
    assert timed == {*MEASURED} - {"torch"}


def test_nothing_is_timed_if_every_arm_is_wrong(reports: Reports, lines: Lines) -> None:
    measured = samples(lines("all wrong"))
    assert [(line.arm, line.status, line.rounds) for line in measured] == [(arm, Status.WRONG, ()) for arm in MEASURED]
    phases = {phase.removesuffix(", waiting") for _, _, phase in reports[0]["all wrong"]["visits"]}
    assert phases == {"memory", "check before timing", "second check before timing"}


def test_an_arm_that_becomes_wrong_on_one_rank_while_it_is_timed_is_recorded_as_wrong(lines: Lines) -> None:
    measured = samples(lines("wrong later"))
    wrong = [line for line in measured if line.status is Status.WRONG]
    assert [(line.arm, line.timing) for line in wrong] == [("torch", "eager"), ("torch", "gated")]
    # Three elements of the four checked slots, on one rank.
    assert [line.wrong for line in wrong] == [12, 12]
    assert len(wrong[0].samples_us) == 3
    assert {line.arm for line in measured if line.status is Status.OK} == {*MEASURED} - {"torch"}


def test_an_arm_that_drops_its_wait_makes_no_other_arm_wrong(lines: Lines) -> None:
    measured = samples(lines("dropped wait"))
    wrong = [line for line in measured if line.status is Status.WRONG]
    assert [(line.arm, line.timing) for line in wrong] == [("dedicated-stream", timing) for timing in TIMINGS]
    assert all(line.wrong and line.late for line in wrong)
    right = [line for line in measured if line.status is Status.OK]
    assert {line.arm for line in right} == {*MEASURED} - {"dedicated-stream"}
    assert all((line.wrong, line.late) == (0, 0) and line.rounds for line in right if line.timing == "eager")


def test_an_arm_that_writes_after_its_calls_is_found_though_its_own_results_are_right(
    reports: Reports, lines: Lines
) -> None:
    measured = samples(lines("late writer"))
    wrong = [line for line in measured if line.status is Status.WRONG]
    assert [(line.arm, line.timing) for line in wrong] == [("stream-free", "eager"), ("stream-free", "gated")]
    # Two elements of each of four slots, on one rank.
    assert {(line.wrong, line.late) for line in wrong} == {(0, 8)}
    assert {line.arm for line in measured if line.status is Status.OK} == {*MEASURED} - {"stream-free"}
    # The other arms are measured in memory that the late writer does not know.
    assert [report["late writer"]["reached"] for report in reports] == [[], []]


def test_an_arm_that_writes_late_is_found_though_no_other_arm_has_a_wrong_result(lines: Lines) -> None:
    measured = samples(lines("writes late alone"))
    assert [line.arm for line in measured if line.status is Status.WRONG and line.late] == ["torch"]
    assert {line.arm for line in measured if line.status is Status.OK} == {*MEASURED} - {"torch"}


def test_an_arm_is_wrong_even_if_its_second_result_is_right_and_no_other_arm_wrote_late(lines: Lines) -> None:
    wrong = [line for line in samples(lines("wrong once")) if line.status is Status.WRONG]
    assert [(line.arm, line.wrong, line.late) for line in wrong] == [("torch", 2 * 4 * 512, 0)]


def test_every_batch_starts_from_the_same_inputs(reports: Reports) -> None:
    # Sums in place would grow from batch to batch, and with them the cost of the arithmetic.
    assert [report["inputs"]["inputs"] for report in reports] == [1, 1]


# Scenarios


def test_a_wrong_element_in_a_chain_makes_all_later_layers_wrong(lines: Lines) -> None:
    measured = samples(lines("chain"))
    assert {line.arm for line in measured if line.status is Status.OK} == {*MEASURED} - {"torch"}
    assert all(line.ops_per_batch == 5 and line.wrong == 0 for line in measured if line.status is Status.OK)
    wrong = [line.wrong for line in measured if line.status is Status.WRONG]
    # One element of the first layer, and in three more layers the last token of 64 elements on both ranks.
    assert wrong == [1 + 3 * 2 * 64] * 2


def test_early_ranks_wait_for_a_late_rank_as_long_as_its_measured_delay(lines: Lines) -> None:
    for line in samples(lines("late rank")):
        assert line.status is Status.OK
        assert line.skew is not None
        assert line.skew.late_rank == 1
        if line.case.delay_us:
            assert min(line.skew.delay_us) >= line.case.delay_us == SKEW_US
            waits_us = [slowest - late for slowest, late in zip(line.samples_us, line.skew.late_rank_us, strict=True)]
            # The other rank begins its calls a little later than the alignment.
            assert min(waits_us, default=SKEW_US) > SKEW_US / 2


# Memory


def test_the_rank_with_the_least_memory_decides_what_fits(lines: Lines) -> None:
    measured = lines("little memory")
    slots = {line.case.size_bytes: (line.arena.slots, line.status) for line in measured if isinstance(line, Samples)}
    assert slots == {1024: (500, Status.OK), 4 * 1024**2: (3, Status.OK), 8192: (500, Status.OK)}
    (skipped,) = (line for line in measured if isinstance(line, Skipped))
    assert skipped.case.size_bytes == 64 * 1024**2
    # Needed: three buffers of 64 MiB and a workspace of 128 MiB. Free: 128 MiB and 22 MiB.
    needed = "the buffers need 0.31 GiB on each rank, but may use only 85% of the 0.17 GiB that are free"
    assert skipped.reason == f"{needed}: use smaller --sizes"


# Discarded batches


def test_batches_whose_gate_opened_too_early_on_one_rank_are_discarded_and_counted(lines: Lines) -> None:
    steady, slow, twin = samples(lines("tiny gate"))
    assert (steady.arm, slow.arm, twin.arm) == ("stream-free", "torch", "stream-free:twin")
    assert slow.discarded > 0
    assert slow.status is Status.OK
    # Every arm is visited in every round, also the arm with discarded batches.
    assert len(slow.rounds) + slow.discarded == len(steady.rounds) + steady.discarded > 3
    assert len(slow.samples_us) == len(slow.rounds)


def test_a_sample_is_the_slowest_rank_s_time_of_a_batch_that_was_valid_on_every_rank(
    reports: Reports, lines: Lines
) -> None:
    (line,) = samples(lines("scripted"))
    assert line.rounds == (0, 3, 4, 5)
    assert line.discarded == 2
    assert line.samples_us == (15.0, 18.0, 19.0, 20.0)
    assert line.fastest_rank_us == (10.0, 13.0, 14.0, 15.0)
    # Rank 0 says when a batch began.
    assert line.began_s == (0.0, 3.0, 4.0, 5.0)
    assert line.slowest_rank == (1, 0, 1, 0)
    for report in reports:
        gates = report["scripted"]["gates"]
        assert [gate / gates[0] for gate in gates] == pytest.approx([1, 1, 1, 2, 2, 2])


def test_an_arm_whose_gate_always_opens_too_early_ends_without_samples(reports: Reports, lines: Lines) -> None:
    (line,) = samples(lines("never valid"))
    assert (line.rounds, line.samples_us, line.discarded) == ((), (), 3 * 24)
    gates = reports[0]["never valid"]["gates"]
    # The gate doubles from block to block up to a limit, so that the case does not end as a hang.
    doubled = [gate / gates[0] for gate in gates[::ROUNDS_PER_BLOCK]]
    assert doubled[:6] == pytest.approx([1, 2, 4, 8, 16, 32])
    assert max(doubled) == pytest.approx(LONGEST_GATE)


# The number of rounds


def rounds(lines: list[Line]) -> dict[str, list[int]]:
    """Return the number of rounds of each arm, by timing."""
    measured = samples(lines)
    return {timing: [len(line.rounds) for line in measured if line.timing == timing] for timing in ("eager", "gated")}


def test_rounds_continue_until_the_ratios_are_certain_or_the_maximum_is_reached(lines: Lines) -> None:
    # With two comparisons an interval at 2.5 % needs seven pairs, and rounds come in blocks of three.
    assert rounds(lines("adaptive")) == {"eager": [9, 9, 9], "gated": [20, 20, 20]}
    assert {line.arm for line in samples(lines("adaptive"))} == {
        *("stream-free", "dedicated-stream", "dedicated-stream:twin")
    }


def test_the_first_rank_s_clock_ends_the_run_on_all_ranks(lines: Lines) -> None:
    assert rounds(lines("rank 0 is late")) == {"eager": [3, 3, 3], "gated": [3, 3, 3]}
    assert rounds(lines("rank 1 is late")) == rounds(lines("adaptive"))


# The control group


def test_ranks_reduce_and_announce_over_the_control_group(reports: Reports) -> None:
    assert reports[0]["agreement"] == reports[1]["agreement"]
    agreement = reports[0]["agreement"]
    assert agreement["maximum"] == [2.5, 0.0, 0.25]
    assert agreement["minimum"] == 6
    assert agreement["sum"] == [1, 2**41 + 1, 10]
    assert agreement["announce"] == {"from": 0, "values": [1, 2]}
    assert agreement["first"] == [[0, "from 0"], [1, "late"], [1, ""], None]


def test_no_rank_leaves_a_barrier_before_the_last_rank_enters_it(reports: Reports) -> None:
    meetings = [report["meeting"] for report in reports]
    assert max(meeting["entered"] for meeting in meetings) <= min(meeting["left"] for meeting in meetings)


def test_batches_are_reduced_to_slowest_and_fastest_time_slowest_rank_validity_and_begin(reports: Reports) -> None:
    assert reports[0]["agreement"]["batches"] == [
        [2.5, 1.5, 1, True, 0.0],
        [7.25, 0.001, 0, True, 1.25],
        # Two minutes for one operation keep their picoseconds.
        [120e6, 3.0, 0, True, 3e6],
        [2.0, 2.0, 1, False, 1e-9],
        [0.0, 0.0, 1, False, 7.0],
    ]


def test_an_overlap_has_the_parts_of_every_arm_beside_one_product_that_the_ranks_agree_on(lines: Lines) -> None:
    measured = samples(lines("overlap"))
    assert {line.status for line in measured} == {Status.OK}
    of_device = [line for line in measured if line.timing != "enqueue"]
    assert {line.arm for line in of_device if line.parts} == {line.arm for line in measured}
    assert len({line.parts.product for line in of_device if line.parts}) == 1
    for line in of_device:
        # On a busy machine every round of a gated timing may have been discarded.
        assert line.parts is not None or line.timing == "gated"
    assert all(line.parts is None for line in measured if line.timing == "enqueue")
