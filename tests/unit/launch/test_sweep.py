"""A sweep over scripted launches: which hangs and crashes it records, and when it stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nccl_bench.errors import SetupError
from nccl_bench.launch import supervise
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.messages import Exit, LaunchEnd
from nccl_bench.launch.sweep import Outcome, case_at, run_sweep
from nccl_bench.records.schema import Crash, Hang
from tests.support.scripted_launches import Launches, crashes, finishes, hangs, ranks, stays
from tests.support.scripted_sweeps import CASES, SPEC, WITH_USER_ARMS, cases_of, sweep

pytestmark = pytest.mark.usefixtures("fast")


def test_a_sweep_without_failures_is_one_launch() -> None:
    launches = Launches((finishes,))
    outcome, lines = sweep(launches)
    assert outcome == Outcome(hangs=(), crashes=(), stopped=None)
    assert lines == []


def test_a_hang_is_recorded_with_its_rank_and_its_case_is_tried_again_after_all_other_cases() -> None:
    launches = Launches((hangs(2), hangs(5, "b"), finishes))
    outcome, lines = sweep(launches)
    assert cases_of(launches) == ["01234567", "345672", "6725"]
    assert len(set(launches.scratches)) == 3
    assert outcome.stopped is None
    assert list(outcome.hangs) == lines
    first = lines[0]
    assert isinstance(first, Hang)
    assert first.case == CASES[2].case
    assert (first.case_index, first.arm, first.rank, first.phase, first.timeout_s) == (2, "a", 1, "timed", -1)
    assert not first.excludes_arm


def test_a_crash_is_recorded_and_its_case_is_tried_only_twice() -> None:
    launches = Launches((crashes(4, "b"), crashes(4, "b"), finishes))
    outcome, lines = sweep(launches)
    assert cases_of(launches) == ["01234567", "5674"]
    assert list(outcome.crashes) == lines
    assert [(line.case, line.arm, line.rank) for line in lines] == [(CASES[4].case, "b", 1)] * 2
    assert isinstance(lines[0], Crash)
    assert "ValueError: broken" in lines[0].message
    assert outcome.stopped is None


def test_a_process_that_does_not_end_after_the_last_case_is_a_hang_without_a_case(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervise, "EXIT_S", 0.0)
    outcome, _ = sweep(Launches((stays,)))
    assert [(hang.case, hang.phase) for hang in outcome.hangs] == [(None, "exit")]


def test_three_failures_outside_any_arm_end_the_sweep() -> None:
    launches = Launches((crashes(0, ""), crashes(1, ""), crashes(2, ""), finishes))
    outcome, lines = sweep(launches)
    assert "outside any arm" in str(outcome.stopped)
    assert len(lines) == 3


def test_a_sweep_measures_the_cases_of_its_specification() -> None:
    launches = Launches((crashes(3), finishes))
    sweep(launches, spec=replace(SPEC, cases=(5, 3, 7)))
    assert cases_of(launches) == ["537", "73"]


THREE_LAUNCHES = replace(SPEC, cases=(0, 1, 2), later=((2, 0, 1), (), (1, 2)))


def test_every_launch_has_new_ranks_and_a_launch_without_cases_none() -> None:
    launches = Launches((finishes, finishes, finishes))
    outcome, _ = sweep(launches, spec=THREE_LAUNCHES)
    assert (cases_of(launches), launches.numbers, outcome.stopped) == (["012", "201", "12"], [1, 2, 4], None)
    # A run that is continued may lack nothing of its first launch.
    launches = Launches((finishes, finishes))
    sweep(launches, spec=replace(THREE_LAUNCHES, cases=()))
    assert (cases_of(launches), launches.numbers) == (["201", "12"], [2, 4])


def test_in_each_launch_a_case_is_tried_twice_and_an_excluded_arm_stays_away() -> None:
    launches = Launches((crashes(2), crashes(2), crashes(2), crashes(0, "b"), finishes, finishes))
    outcome, lines = sweep(launches, spec=THREE_LAUNCHES)
    assert cases_of(launches) == ["012", "2", "201", "012", "120", "12"]
    assert [line.launch for line in lines] == [1, 1, 2, 2]
    assert outcome.stopped is None
    launches = Launches((crashes(2, "a"), finishes, finishes, finishes))
    sweep(launches, spec=replace(WITH_USER_ARMS, cases=(0, 1, 2), later=THREE_LAUNCHES.later))
    assert launches.excluded == [(), ("a",), ("a",), ("a",)]


def test_a_later_launch_whose_set_up_fails_once_is_started_again() -> None:
    launches = Launches((finishes, crashes(-1), finishes, finishes))
    outcome, lines = sweep(launches, spec=THREE_LAUNCHES)
    assert (cases_of(launches), outcome.stopped) == (["012", "201", "201", "12"], None)
    assert [(line.case, line.launch) for line in lines] == [(None, 2)]


def test_a_sweep_that_is_stopped_begins_no_further_launch() -> None:
    launches = Launches((crashes(0, ""), crashes(1, ""), crashes(2, ""), finishes))
    outcome, _ = sweep(launches, spec=THREE_LAUNCHES)
    assert "outside any arm" in str(outcome.stopped)
    assert launches.numbers == [1, 1, 1]


def test_a_crash_after_the_last_case_loses_no_case() -> None:
    launches = Launches((crashes(4), crashes(len(CASES), ""), finishes))
    outcome, lines = sweep(launches)
    assert cases_of(launches) == ["01234567", "5674"]
    assert ([line.case for line in lines], outcome.stopped) == ([CASES[4].case, None], None)


def test_a_failed_set_up_of_new_ranks_is_tried_again_and_the_third_one_excludes_the_arm() -> None:
    launches = Launches((crashes(2, "b"), crashes(-1), hangs(-1), crashes(-1), finishes))
    outcome, lines = sweep(launches)
    assert cases_of(launches) == ["01234567"] + ["345672"] * 4
    assert launches.excluded == [(), (), (), (), ("a",)]
    assert [(line.case_index, line.arm, line.excludes_arm) for line in lines] == [
        (2, "b", False),
        (-1, "a", False),
        (-1, "a", False),
        (-1, "a", True),
    ]
    assert outcome.stopped is None


def test_a_failed_set_up_of_new_ranks_outside_any_arm_costs_the_next_case_after_the_third_one() -> None:
    launches = Launches((crashes(2), *[crashes(-1, "")] * 3, crashes(-1, ""), finishes))
    outcome, lines = sweep(launches)
    assert cases_of(launches) == ["01234567", *["345672"] * 3, *["456723"] * 2]
    assert [line.case and line.case_index for line in lines] == [2, None, None, 3, None]
    assert outcome.stopped is None


def test_set_ups_that_never_succeed_again_end_the_sweep_and_keep_what_was_measured() -> None:
    outcome, lines = sweep(Launches((crashes(2), *[crashes(-1, "")] * 9)))
    assert "outside any arm in 3 cases" in str(outcome.stopped)
    assert len(lines) == 10


def test_a_set_up_succeeds_between_failures_that_do_not_add_up() -> None:
    acts = (crashes(1), crashes(-1), crashes(-1), crashes(3, "b"), crashes(-1), crashes(-1), finishes)
    launches = Launches(acts)
    sweep(launches)
    assert launches.excluded[-1] == ()


def killed(scratch: Path) -> int | None:
    """End rank 1 by SIGKILL in the set-up."""
    for progress in ranks(scratch):
        progress.update(case_index=-1, arm="torch", phase="communicator", deadline_s=60)
    LaunchEnd(exits=(Exit(rank=1, local_rank=1, code=-9),)).write(scratch)
    return 1


def test_a_death_by_a_signal_in_the_first_set_up_is_tried_again_once() -> None:
    launches = Launches((killed, finishes))
    outcome, lines = sweep(launches)
    assert (launches.excluded, outcome.stopped) == ([(), ()], None)
    assert [(line.case, line.signal) for line in lines if isinstance(line, Crash)] == [(None, "SIGKILL")]
    with pytest.raises(SetupError, match="SIGKILL"):
        sweep(Launches((killed, killed, finishes)))


def test_nodes_other_than_the_first_relaunch_but_record_nothing() -> None:
    launches = Launches((hangs(2), finishes))
    outcome, lines = sweep(launches, launch=LaunchConfig(nproc=2, nnodes=2, node_rank=1, rdzv_endpoint="a:1"))
    assert cases_of(launches) == ["01234567", "345672"]
    assert len(outcome.hangs) == 1
    assert lines == []


def test_a_failed_set_up_is_recorded_without_a_case_and_raised() -> None:
    lines: list[Hang | Crash] = []
    with pytest.raises(SetupError, match="ValueError: broken"):
        run_sweep(
            SPEC,
            LaunchConfig(nproc=2),
            Launches((crashes(-1),)),
            cases=CASES,
            append=lines.append,
            on_progress=lambda launch, positions: None,
        )
    assert [(line.case, line.case_index) for line in lines] == [(None, -1)]


@pytest.mark.parametrize("index", [-1, 2, len(CASES)])
def test_there_is_no_case_before_the_first_and_after_the_last(index: int) -> None:
    assert case_at(CASES, index) == (CASES[2].case if index == 2 else None)
