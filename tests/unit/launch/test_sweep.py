"""A sweep over scripted launches: which hangs and crashes it records, and when it stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nccl_bench.catalog.cases import Scenario
from nccl_bench.config.run import resolve
from nccl_bench.errors import SetupError
from nccl_bench.launch import supervise
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.messages import Exit, LaunchEnd
from nccl_bench.launch.sweep import Outcome, case_at, run_sweep
from nccl_bench.plan.cases import PlannedCase, make_plan
from nccl_bench.ranks.failure import Failure
from nccl_bench.ranks.progress import Position
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.schema import Crash, Hang
from tests.support.scripted_launches import Launches, crashes, finishes, finishes_on, hangs, ranks, stays

CONFIG = resolve("cpu", {"sizes": "8,16,32,64,128,256,512,1024", "timeout_s": 9})
CASES: list[PlannedCase] = [
    replace(planned, arms=("a", "b") if index != 3 else ("b",))
    for index, planned in enumerate(make_plan(CONFIG, 2).cases)
]
SPEC = WorkerSpec(config=CONFIG, run_dir=None)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "POLL_S", 0.001)


def sweep(
    launches: Launches,
    *,
    spec: WorkerSpec = SPEC,
    launch: LaunchConfig | None = None,
    cases: Sequence[PlannedCase] = CASES,
) -> tuple[Outcome, list[Hang | Crash]]:
    lines: list[Hang | Crash] = []
    outcome = run_sweep(
        spec,
        launch or LaunchConfig(nproc=2),
        launches,
        cases=cases,
        append=lines.append,
        on_progress=lambda launch, positions: None,
    )
    return outcome, lines


def test_a_sweep_without_failures_is_one_launch() -> None:
    launches = Launches((finishes,))
    outcome, lines = sweep(launches)
    assert outcome == Outcome(hangs=(), crashes=(), stopped=None)
    assert lines == []


def cases_of(launches: Launches) -> list[str]:
    """Return the cases of each launch: their indices, one digit each."""
    return ["".join(map(str, cases)) for cases in launches.cases]


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


def test_an_arm_that_fails_in_three_cases_in_a_row_is_excluded_and_the_sweep_goes_on() -> None:
    launches = Launches((hangs(0, "torch"), crashes(1, "torch:twin"), hangs(2, "torch"), finishes))
    outcome, lines = sweep(launches, spec=WITH_USER_ARMS)
    # The other arms measure case 2 again, and cases 0 and 1 at the end.
    assert cases_of(launches) == ["01234567", "12345670", "23456701", "23456701"]
    assert launches.excluded == [(), (), (), ("torch",)]
    assert [line.excludes_arm for line in lines] == [False, False, True]
    assert outcome.stopped is None


CONTENDED = [
    replace(planned, case=replace(planned.case, scenario=Scenario.CONTENDED, streams=2), arms=("a", "b"))
    for planned in CASES
]


def test_a_deadlock_leaves_its_arm_out_of_its_case_only_and_the_other_arms_measure_the_case_again() -> None:
    launches = Launches((hangs(1), hangs(1, "b:twin"), hangs(4), finishes))
    outcome, lines = sweep(launches, cases=CONTENDED)
    assert cases_of(launches) == ["01234567", "1234567", "1234567", "4567"]
    assert launches.deadlocks == [(), ((1, "a"),), ((1, "a"), (1, "b")), ((1, "a"), (1, "b"), (4, "a"))]
    assert launches.excluded == [()] * 4
    assert [(line.case_index, line.excludes_arm) for line in lines] == [(1, False), (1, False), (4, False)]
    assert outcome.stopped is None


def test_a_third_deadlock_in_a_row_excludes_the_arm_and_a_crash_is_no_deadlock() -> None:
    launches = Launches((hangs(0), hangs(1), hangs(2), finishes))
    sweep(launches, cases=CONTENDED)
    assert launches.excluded == [(), (), (), ("a",)]
    launches = Launches((crashes(0), finishes))
    sweep(launches, cases=CONTENDED)
    assert (cases_of(launches), launches.deadlocks) == (["01234567", "12345670"], [(), ()])


def test_cases_without_the_arm_or_ended_by_another_arm_do_not_break_the_row() -> None:
    # Case 3 has no arm a. Case 5 was ended by arm b, so nobody knows whether arm a works in it.
    launches = Launches((hangs(2), hangs(4), hangs(5, "b"), hangs(6), finishes))
    sweep(launches)
    assert launches.excluded == [(), (), (), (), ("a",)]


def test_a_case_that_works_breaks_the_row() -> None:
    launches = Launches((hangs(0), hangs(1), hangs(4), hangs(5), finishes))
    sweep(launches)
    assert launches.excluded[-1] == ()


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


WITH_USER_ARMS = replace(
    SPEC, config=resolve("cpu", {"arms": "torch", "user_arms": [{"name": n, "target": "a.py:A"} for n in ("a", "b")]})
)


def test_a_user_arm_that_fails_is_excluded_and_its_case_is_done_again() -> None:
    launches = Launches((crashes(2, "a:twin"), hangs(2, "b"), finishes))
    outcome, lines = sweep(launches, spec=WITH_USER_ARMS)
    assert cases_of(launches) == ["01234567", "234567", "234567"]
    assert launches.excluded == [(), ("a",), ("a", "b")]
    assert [(line.case_index, line.arm) for line in lines] == [(2, "a:twin"), (2, "b")]
    assert outcome.stopped is None


def test_a_user_arm_that_fails_in_set_up_is_excluded_and_no_case_is_lost() -> None:
    launches = Launches((crashes(-1, "a"), crashes(-1, "a"), crashes(4, "b"), finishes))
    outcome, lines = sweep(launches, spec=WITH_USER_ARMS)
    assert cases_of(launches) == ["01234567", "01234567", "01234567", "4567"]
    assert [(line.case, line.arm) for line in lines] == [(None, "a"), (CASES[4].case, "b")]
    assert outcome.stopped is None


def test_a_user_arm_that_fails_in_set_up_beside_another_first_gets_its_own_processes() -> None:
    launches = Launches((crashes(-1, "b"), finishes_on(6)))
    outcome, lines = sweep(launches, spec=WITH_USER_ARMS)
    assert (launches.processes, launches.excluded, lines, outcome.stopped) == ([2, 6], [(), ()], [], None)


def test_a_user_arm_that_fails_in_set_up_beside_built_in_arms_is_excluded_at_once() -> None:
    config = resolve("cpu", {"arms": "torch", "user_arms": [{"name": "a", "target": "a.py:A"}]})
    launches = Launches((crashes(-1, "a"), finishes))
    _, lines = sweep(launches, spec=replace(SPEC, config=config))
    assert (launches.processes, launches.excluded) == ([2, 2], [(), ("a",)])
    assert [line.arm for line in lines] == ["a"]


def test_the_rank_of_a_crash_is_counted_within_its_process_set() -> None:
    user_arm = {"name": "a", "target": "stream-free", "variables": {"NCCL_ALGO": "Ring"}}
    spec = replace(SPEC, config=resolve("cpu", {"arms": "torch", "user_arms": [user_arm]}))
    assert spec.processes_per_rank == 3

    def act(scratch: Path) -> int | None:
        finishes_on(6)(scratch)
        position = Position(rank=3, local_rank=3, host="h", pid=1, case_index=3, arm="a", phase="timed")
        Failure.of(ValueError("broken"), position).write(scratch)
        return 1

    _, (line,) = sweep(Launches((act, finishes)), spec=spec)
    assert isinstance(line, Crash)
    assert line.rank == 1
    assert line.message.startswith("rank 1 on h ended")


def test_a_sweep_ends_when_every_arm_is_excluded() -> None:
    alone = replace(WITH_USER_ARMS, config=replace(WITH_USER_ARMS.config, arms=("a", "b")))
    launches = Launches((crashes(1, "a"), crashes(1, "b"), finishes))
    outcome, _ = sweep(launches, spec=alone)
    assert (len(launches.scratches), outcome.stopped) == (2, "no arm is left")
    with pytest.raises(SetupError, match="ValueError: broken"):
        sweep(Launches((crashes(-1, "a"), crashes(-1, "a"), crashes(-1, "b"))), spec=alone)


def test_a_built_in_arm_that_fails_beside_user_arms_is_not_excluded() -> None:
    launches = Launches((crashes(2, "torch"), crashes(3, "a"), finishes))
    sweep(launches, spec=WITH_USER_ARMS)
    assert cases_of(launches) == ["01234567", "345672", "345672"]
    assert launches.excluded == [(), (), ("a",)]


@pytest.mark.parametrize("index", [-1, 2, len(CASES)])
def test_there_is_no_case_before_the_first_and_after_the_last(index: int) -> None:
    assert case_at(CASES, index) == (CASES[2].case if index == 2 else None)
