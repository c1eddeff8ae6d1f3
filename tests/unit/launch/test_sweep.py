"""The sweep over scripted launches: what is recorded, and when there is no use in going on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nccl_bench.config.run import resolve
from nccl_bench.errors import SetupError
from nccl_bench.launch import supervise
from nccl_bench.launch.sweep import Outcome, hang_at, run_sweep
from nccl_bench.launch.torchrun import LaunchConfig
from nccl_bench.plan.cases import PlannedCase, make_plan
from nccl_bench.ranks.failure import Failure
from nccl_bench.ranks.progress import Position
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.schema import Crash, Hang
from tests.support.scripted_launches import Launches, crashes, finishes, finishes_on, hangs, stays

CONFIG = resolve("cpu", {"sizes": "8,16,32,64,128,256,512,1024", "timeout_s": 9})
CASES: list[PlannedCase] = [
    replace(planned, arms=("a", "b") if index != 3 else ("b",))
    for index, planned in enumerate(make_plan(CONFIG, 2).cases)
]
SPEC = WorkerSpec(config=CONFIG, run_dir=None, scratch=None, first_case=0)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "POLL_S", 0.001)


def sweep(
    launches: Launches, *, spec: WorkerSpec = SPEC, launch: LaunchConfig | None = None
) -> tuple[Outcome, list[Hang | Crash]]:
    lines: list[Hang | Crash] = []
    outcome = run_sweep(
        spec,
        launch or LaunchConfig(nproc=2),
        cases=CASES,
        append=lines.append,
        on_progress=lambda positions: None,
        start=launches,
    )
    return outcome, lines


def test_a_sweep_without_trouble_is_one_launch() -> None:
    launches = Launches((finishes,))
    outcome, lines = sweep(launches)
    assert outcome == Outcome(attempts=1, hangs=(), crashes=(), stopped=None)
    assert lines == []


def test_a_hang_is_recorded_with_its_culprit_and_the_sweep_goes_on_behind_it() -> None:
    launches = Launches((hangs(2), hangs(5, "b"), finishes))
    outcome, lines = sweep(launches)
    assert launches.first_cases == [0, 3, 6]
    assert launches.attempts == [0, 1, 2]
    assert len(set(launches.scratches)) == 3
    assert outcome.attempts == 3
    assert outcome.stopped is None
    assert list(outcome.hangs) == lines
    first = lines[0]
    assert isinstance(first, Hang)
    assert first.case == CASES[2].case
    assert (first.case_index, first.arm, first.rank, first.phase, first.timeout_s) == (2, "a", 1, "timed", -1)


def test_a_crash_is_recorded_and_the_sweep_goes_on_behind_it() -> None:
    launches = Launches((crashes(4, "b"), finishes))
    outcome, lines = sweep(launches)
    assert launches.first_cases == [0, 5]
    assert list(outcome.crashes) == lines
    (line,) = lines
    assert isinstance(line, Crash)
    assert (line.case, line.arm, line.rank) == (CASES[4].case, "b", 1)
    assert "ValueError: broken" in line.message


def test_a_process_that_does_not_leave_after_its_last_case_is_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "EXIT_S", 0.0)
    outcome, _ = sweep(Launches((stays,)))
    assert [(hang.case, hang.phase) for hang in outcome.hangs] == [(None, "exit")]


def test_an_arm_that_fails_three_cases_running_ends_the_sweep() -> None:
    launches = Launches((hangs(0, "b"), crashes(1, "b"), hangs(2, "b"), finishes))
    outcome, lines = sweep(launches)
    assert outcome.attempts == 3
    assert len(lines) == 3
    assert outcome.stopped is not None
    assert "the arm b hung or crashed in 3 cases" in outcome.stopped


def test_a_case_without_the_arm_or_ended_by_another_does_not_break_the_row() -> None:
    # Case 3 has no arm a; case 5 was ended by b before a was known to work there.
    launches = Launches((hangs(2), hangs(4), hangs(5, "b"), hangs(6), finishes))
    outcome, _ = sweep(launches)
    assert outcome.attempts == 4
    assert outcome.stopped is not None
    assert "the arm a" in outcome.stopped


def test_a_case_that_works_in_between_breaks_the_row() -> None:
    launches = Launches((hangs(0), hangs(1), hangs(4), hangs(5), finishes))
    assert sweep(launches)[0].stopped is None


def test_three_failures_outside_any_arm_end_the_sweep() -> None:
    launches = Launches((crashes(0, ""), crashes(1, ""), crashes(2, ""), finishes))
    assert "outside any arm" in str(sweep(launches)[0].stopped)


def test_the_sweep_starts_where_the_spec_says() -> None:
    launches = Launches((finishes,))
    sweep(launches, spec=replace(SPEC, first_case=5))
    assert launches.first_cases == [5]


def test_other_nodes_enforce_deadlines_and_record_nothing() -> None:
    launches = Launches((hangs(2), finishes))
    outcome, lines = sweep(launches, launch=LaunchConfig(nproc=2, nnodes=2, node_rank=1, rdzv_endpoint="a:1"))
    assert launches.first_cases == [0, 3]
    assert len(outcome.hangs) == 1
    assert lines == []


def test_a_set_up_that_fails_is_recorded_without_a_case_and_raised() -> None:
    lines: list[Hang | Crash] = []
    with pytest.raises(SetupError, match="ValueError: broken"):
        run_sweep(
            SPEC,
            LaunchConfig(nproc=2),
            cases=CASES,
            append=lines.append,
            on_progress=lambda positions: None,
            start=Launches((crashes(-1),)),
        )
    assert [(line.case, line.case_index) for line in lines] == [(None, -1)]


BROUGHT = replace(
    SPEC, config=resolve("cpu", {"arms": "torch", "user_arms": [{"name": n, "target": "a.py:A"} for n in ("a", "b")]})
)


def test_a_plug_in_that_fails_takes_no_further_part_and_its_case_is_done_again_without_it() -> None:
    launches = Launches((crashes(2, "a:twin"), hangs(2, "b"), finishes))
    outcome, lines = sweep(launches, spec=BROUGHT)
    assert launches.first_cases == [0, 2, 2]
    assert launches.excluded == [(), ("a",), ("a", "b")]
    assert [(line.case_index, line.arm) for line in lines] == [(2, "a:twin"), (2, "b")]
    assert outcome.stopped is None


def test_a_plug_in_that_fails_in_set_up_costs_the_others_nothing() -> None:
    launches = Launches((crashes(-1, "a"), crashes(-1, "a"), crashes(4, "b"), finishes))
    outcome, lines = sweep(launches, spec=BROUGHT)
    assert launches.first_cases == [0, 0, 0, 4]
    assert [(line.case, line.arm) for line in lines] == [(None, "a"), (CASES[4].case, "b")]
    assert outcome.stopped is None


def test_one_that_does_not_load_beside_another_gets_processes_of_its_own_and_is_not_told_to_have_failed() -> None:
    launches = Launches((crashes(-1, "b"), finishes_on(4)))
    outcome, lines = sweep(launches, spec=BROUGHT)
    assert (launches.processes, launches.excluded, lines, outcome.stopped) == ([2, 4], [(), ()], [], None)


def test_alone_beside_ours_it_has_nothing_to_stumble_over() -> None:
    config = resolve("cpu", {"arms": "torch", "user_arms": [{"name": "a", "target": "a.py:A"}]})
    launches = Launches((crashes(-1, "a"), finishes))
    _, lines = sweep(launches, spec=replace(SPEC, config=config))
    assert (launches.processes, launches.excluded) == ([2, 2], [(), ("a",)])
    assert [line.arm for line in lines] == ["a"]


def test_the_rank_of_a_process_is_that_of_its_world() -> None:
    brought = {"name": "a", "target": "stream-free", "variables": {"NCCL_ALGO": "Ring"}}
    spec = replace(SPEC, config=resolve("cpu", {"arms": "torch", "user_arms": [brought]}))
    assert spec.processes_per_rank == 2

    def act(scratch: Path) -> int | None:
        finishes_on(4)(scratch)
        position = Position(rank=3, local_rank=3, host="h", pid=1, case_index=3, arm="a", phase="timed")
        Failure.of(ValueError("broken"), position).write(scratch)
        return 1

    _, (line,) = sweep(Launches((act, finishes)), spec=spec)
    assert isinstance(line, Crash)
    assert line.rank == 1
    assert line.message.startswith("rank 1 on h ended")


def test_where_every_arm_is_a_plug_in_that_failed_the_sweep_ends() -> None:
    alone = replace(BROUGHT, config=replace(BROUGHT.config, arms=("a", "b")))
    outcome, _ = sweep(Launches((crashes(1, "a"), crashes(1, "b"), finishes)), spec=alone)
    assert (outcome.attempts, outcome.stopped) == (2, "no arm is left")
    with pytest.raises(SetupError, match="ValueError: broken"):
        sweep(Launches((crashes(-1, "a"), crashes(-1, "a"), crashes(-1, "b"))), spec=alone)


def test_our_own_arm_that_fails_beside_a_plug_in_is_treated_as_ever() -> None:
    launches = Launches((crashes(2, "torch"), crashes(3, "a"), finishes))
    sweep(launches, spec=BROUGHT)
    assert launches.first_cases == [0, 3, 3]
    assert launches.excluded == [(), (), ("a",)]


@pytest.mark.parametrize("index", [-1, 2, len(CASES)])
def test_a_rank_that_is_late_has_the_case_it_is_in(index: int) -> None:
    late = Position(rank=1, local_rank=1, host="h", pid=1, case_index=index, arm="a", phase="timed")
    hang = hang_at(late, CASES, 9)
    assert hang.case == (CASES[2].case if index == 2 else None)
    assert (hang.case_index, hang.arm, hang.rank, hang.phase, hang.timeout_s) == (index, "a", 1, "timed", 9)
    assert hang_at(replace(late, timeout_s=4), CASES, 9).timeout_s == 4
