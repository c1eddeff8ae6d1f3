"""The supervisor against scripted launches: each writes what workers would, and no process is started."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from nccl_bench.config import resolve
from nccl_bench.errors import InterruptedRunError, SetupError
from nccl_bench.launch import supervise
from nccl_bench.launch.supervise import Outcome, run_sweep
from nccl_bench.launch.torchrun import LaunchConfig
from nccl_bench.plan import PlannedCase, make_plan
from nccl_bench.records.handoff import Failure, Position, Progress, WorkerSpec
from nccl_bench.records.schema import Crash, Hang

CONFIG = resolve("cpu", {"sizes": "8,16,32,64,128,256,512,1024", "timeout_s": 9})
CASES: list[PlannedCase] = [
    replace(planned, arms=("a", "b") if index != 3 else ("b",))
    for index, planned in enumerate(make_plan(CONFIG, 2).cases)
]
SPEC = WorkerSpec(config=CONFIG, run_dir=None, scratch=None, first_case=0)

# What a launch does: writes into its scratch directory, and returns torchrun's exit code, None for one that goes on.
Act = Callable[[Path], int | None]


def ranks(scratch: Path) -> list[Progress]:
    return [Progress(scratch, rank, rank) for rank in (0, 1)]


def finishes(scratch: Path) -> int | None:
    for progress in ranks(scratch):
        progress.finish()
    return 0


def hangs(case_index: int, arm: str = "a", *, exit_code: int | None = None) -> Act:
    """Rank 1 does not come along, and both ranks' deadlines have passed."""

    def act(scratch: Path) -> int | None:
        waiting, culprit = ranks(scratch)
        waiting.update(case_index=case_index, arm=arm, phase="timed", deadline_s=-1)
        waiting.update(case_index=case_index, arm=arm, phase="waiting", deadline_s=None)
        culprit.update(case_index=case_index, arm=arm, phase="timed", deadline_s=-1)
        return exit_code

    return act


def crashes(case_index: int, arm: str = "a", *, exit_code: int | None = 1, deadline_s: float = 60) -> Act:
    def act(scratch: Path) -> int | None:
        for progress in ranks(scratch):
            progress.update(case_index=case_index, arm=arm, phase="timed", deadline_s=deadline_s)
        Failure.of(ValueError("broken"), replace(progress.position)).write(scratch)
        return exit_code

    return act


@dataclass
class Launches:
    """Stands in for ``Job``: the n-th launch does the n-th act."""

    acts: tuple[Act, ...]
    first_cases: list[int] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    scratches: list[Path] = field(default_factory=list)
    running: int = 0
    exit_code: int | None = None

    def __call__(self, launch: LaunchConfig, spec: WorkerSpec, attempt: int) -> Launches:
        assert spec.scratch is not None
        assert launch.nproc == 2
        assert not self.running
        self.running = 1
        self.first_cases.append(spec.first_case)
        self.attempts.append(attempt)
        self.scratches.append(Path(spec.scratch))
        self.exit_code = self.acts[len(self.attempts) - 1](Path(spec.scratch))
        return self

    def poll(self) -> int | None:
        return self.exit_code

    def stop(self) -> None:
        self.running = 0


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "POLL_S", 0.001)


def sweep(
    launches: Launches,
    *,
    spec: WorkerSpec = SPEC,
    launch: LaunchConfig | None = None,
    on_progress: Callable[[list[Position]], None] = lambda positions: None,
) -> tuple[Outcome, list[Hang | Crash]]:
    lines: list[Hang | Crash] = []
    outcome = run_sweep(
        spec,
        launch or LaunchConfig(nproc=2),
        cases=CASES,
        append=lines.append,
        on_progress=on_progress,
        start=launches,
    )
    assert not launches.running
    assert not any(scratch.exists() for scratch in launches.scratches)
    return outcome, lines


def test_a_sweep_without_trouble_is_one_launch() -> None:
    launches = Launches((finishes,))
    seen: list[list[Position]] = []
    outcome, lines = sweep(launches, on_progress=seen.append)
    assert outcome == Outcome(attempts=1, hangs=(), crashes=(), stopped=None)
    assert lines == []
    assert [position.rank for position in seen[-1]] == [0, 1]


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


def test_a_failure_makes_a_crash_of_what_else_is_late_because_of_it() -> None:
    outcome, _ = sweep(Launches((crashes(1, exit_code=None, deadline_s=-1), finishes)))
    assert len(outcome.crashes) == 1
    assert outcome.hangs == ()


def test_a_failure_in_the_last_case_is_the_last_launch() -> None:
    launches = Launches((crashes(len(CASES) - 1),))
    assert sweep(launches)[0].attempts == 1


def test_exit_code_0_before_the_last_case_is_a_crash() -> None:
    outcome, _ = sweep(Launches((hangs(3, "b", exit_code=0), finishes)))
    assert "before its last case" in outcome.crashes[0].message


def test_a_process_that_does_not_leave_after_its_last_case_is_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "EXIT_S", 0.0)

    def stays(scratch: Path) -> None:
        finishes(scratch)

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


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (crashes(-1), "did not get past set-up: rank 1 on .* ValueError: broken"),
        (hangs(-1), r"rank 1 on .* did not get past set-up \(timed\) within -1 s"),
    ],
)
def test_failing_in_set_up_ends_the_run(act: Act, message: str) -> None:
    launches = Launches((act, finishes))
    with pytest.raises(SetupError, match=message):
        sweep(launches)
    assert launches.attempts == [0]
    assert not launches.running
    assert not launches.scratches[0].exists()


def test_no_worker_at_all_is_a_failed_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "LEAST_START_S", 0.0)
    spec = replace(SPEC, config=replace(CONFIG, timeout_s=0.01))

    def silent(scratch: Path) -> None:
        (scratch / "torchrun.log").write_text("waiting for node 1\n", encoding="utf-8")

    with pytest.raises(SetupError, match=r"within 0\.01 s:\nwaiting for node 1"):
        sweep(Launches((silent,)), spec=spec)


def test_other_nodes_enforce_deadlines_and_record_nothing() -> None:
    launches = Launches((hangs(2), finishes))
    outcome, lines = sweep(launches, launch=LaunchConfig(nproc=2, nnodes=2, node_rank=1, rdzv_endpoint="a:1"))
    assert launches.first_cases == [0, 3]
    assert len(outcome.hangs) == 1
    assert lines == []


def test_nothing_is_left_when_a_callback_raises() -> None:
    def broken(positions: list[Position]) -> None:
        raise OSError("no terminal")

    launches = Launches((hangs(0, exit_code=None),))
    with pytest.raises(OSError, match="no terminal"):
        sweep(launches, on_progress=broken)
    assert not launches.running
    assert not launches.scratches[0].exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_everything_and_their_handlers_are_restored(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    launches = Launches((lambda scratch: None,))
    with pytest.raises(InterruptedRunError, match=f"interrupted by {number.name}"):
        sweep(launches, on_progress=lambda positions: signal.raise_signal(number))
    assert not launches.running
    assert not launches.scratches[0].exists()
    assert signal.getsignal(number) is before


def test_an_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        outcome, _ = sweep(Launches((finishes,)), on_progress=lambda positions: signal.raise_signal(signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert outcome.attempts == 1
