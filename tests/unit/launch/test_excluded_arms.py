"""Arms that fail are excluded from a sweep, or left out of one case, and the other arms go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nccl_bench.catalog.cases import Scenario
from nccl_bench.config.run import resolve
from nccl_bench.errors import SetupError
from nccl_bench.ranks.failure import Failure
from nccl_bench.ranks.progress import Position
from nccl_bench.records.schema import Crash
from tests.support.scripted_launches import Launches, crashes, finishes, finishes_on, hangs
from tests.support.scripted_sweeps import CASES, SPEC, WITH_USER_ARMS, cases_of, sweep

pytestmark = pytest.mark.usefixtures("fast")


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
