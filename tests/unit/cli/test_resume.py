"""``run --resume``: which cases it measures, and what counts afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nccl_bench.cli import resumed_run
from nccl_bench.config.run import resolve
from nccl_bench.errors import ExitCode
from nccl_bench.plan.cases import make_plan
from nccl_bench.plan.shuffling import cases_of_launches
from nccl_bench.records.locks import locked
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples
from nccl_bench.records.store import RESERVE, RunStatus, RunStore
from tests.support.command_line import CommandLine, assert_one_message, snapshot
from tests.support.resumed_runs import CASES, SIZES, Sweeps, measured
from tests.support.synthetic_runs import case, crash, hang, run


def test_a_killed_run_is_continued_and_no_row_counts_twice(
    killed: Path, command_line: CommandLine, sweeps: Sweeps
) -> None:
    _, stdout, _ = command_line.run("report", "there", "--width", "200")
    assert "  KILLED: " in stdout
    assert "; 1 of 3 cases\n" in stdout
    assert "2 of 3 cases: `nccl-bench run --resume there` measures them" in stdout
    with locked(killed / "samples.jsonl"):
        _, stdout, _ = command_line.run("report", "there", "--width", "200")
    assert "  STILL RUNNING: " in stdout
    assert "2 of 3 cases, so far: the run goes on" in stdout

    sweeps.lines = [*measured(1), *measured(2)]
    code, stdout, _ = command_line.run("run", "--resume", "there", "--width", "200", "--format", "terminal")
    assert code == ExitCode.OK
    assert "; 3 of 3 cases\n" in stdout
    assert "The run was continued 1 time" in stdout
    assert [spec.cases for spec in sweeps.specs] == [(0, 1, 2), (1, 2)]
    assert sweeps.specs[1].config == sweeps.specs[0].config
    # Begins of batches count from the start of the run, and this run began long ago.
    assert [spec.earlier_s > 86400 for spec in sweeps.specs] == [False, True]

    run = Run.load(killed)
    assert run.meta["status"] == "complete"
    assert run.meta["finished"] is not None
    assert run.lines == tuple(line for index in range(3) for line in measured(index) if isinstance(line, Samples))
    assert (killed / "summary.csv").read_text(encoding="utf-8").count("\n") == 1 + 3
    assert run.resumes[0].command == (
        "nccl-bench",
        "run",
        "--resume",
        "there",
        "--width",
        "200",
        "--format",
        "terminal",
    )
    assert not (killed / RESERVE).exists()

    before = snapshot(killed)
    code, again, stderr = command_line.run("run", "--resume", "there", "--width", "200")
    assert (code, again) == (ExitCode.OK, stdout)
    assert_one_message(stderr, ("nothing is left to measure in there",))
    assert snapshot(killed) == before


def test_a_run_that_was_killed_after_its_last_case_gets_its_end(
    killed: Path, command_line: CommandLine, sweeps: Sweeps
) -> None:
    sweeps.lines = [*measured(1), *measured(2)]
    command_line.run("run", "--resume", "there")
    RunStore(path=killed).update(status=RunStatus.RUNNING)
    assert command_line.run("run", "--resume", "there")[0] == ExitCode.OK
    assert (len(sweeps.specs), Run.load(killed).meta["status"]) == (2, "complete")


def test_a_resume_measures_what_each_launch_lacks(directory: Path, command_line: CommandLine, sweeps: Sweeps) -> None:
    second = [replace(line, launch=2) for index in (2, 0) for line in measured(index)]
    sweeps.lines, sweeps.interrupted = [*measured(0), *measured(1), *second], True
    _, stdout, _ = command_line.run("run", "--sizes", SIZES, "--launches", "3", "--out", "there", "--width", "200")
    order = cases_of_launches(3, 3, seed=1)
    assert (sweeps.specs[0].launch, (sweeps.specs[0].cases, *sweeps.specs[0].later)) == (1, order)
    assert "; 4 of 9 cases in 3 launches\n" in stdout
    sweeps.lines, sweeps.interrupted = [], False
    _, stdout, _ = command_line.run("run", "--resume", "there", "--width", "200")
    assert (sweeps.specs[1].cases, sweeps.specs[1].later) == ((2,), ((1,), order[2]))
    assert f"5 of 9 cases in 3 launches: `nccl-bench run --resume {directory / 'there'}` measures them" in stdout


def test_a_run_with_lost_cases_is_partial_and_a_resume_tries_them_again(
    directory: Path, command_line: CommandLine, sweeps: Sweeps
) -> None:
    lost, excluding = crash(case=CASES[1], case_index=1), crash(case=CASES[2], arm="torch:twin", excludes_arm=True)
    sweeps.lines = [*measured(0), lost, excluding, *measured(2), lost]
    code, stdout, _ = command_line.run("run", "--sizes", SIZES, "--out", "there", "--width", "200")
    assert code == ExitCode.SETUP
    assert "  PARTIAL: " in stdout
    assert "; 2 of 3 cases\n" in stdout
    assert "the arm is no longer measured" in stdout
    sweeps.lines = measured(1)
    code, stdout, _ = command_line.run("run", "--resume", "there", "--width", "200")
    assert (sweeps.specs[1].cases, sweeps.specs[1].excluded) == ((1,), ("torch",))
    # A rank died, whatever came after: the exit code says so. An arm is missing, so the run stays partial.
    assert code == ExitCode.SETUP
    assert "  PARTIAL: " in stdout
    assert "; 3 of 3 cases\n" in stdout
    assert stdout.count("the case was measured in another try") == 2


def test_a_resume_that_is_interrupted_keeps_everything_and_can_be_resumed(
    killed: Path, command_line: CommandLine, sweeps: Sweeps
) -> None:
    sweeps.interrupted, sweeps.lines = True, []
    code, stdout, _ = command_line.run("run", "--resume", "there", "--width", "200")
    assert code == ExitCode.INTERRUPTED
    assert "  INTERRUPTED: " in stdout
    assert "; 1 of 3 cases\n" in stdout
    assert [line.case for line in Run.load(killed).lines] == CASES[:2]
    sweeps.interrupted, sweeps.lines = False, measured(2)
    command_line.run("run", "--resume", "there")
    assert [spec.cases for spec in sweeps.specs] == [(0, 1, 2), (1, 2), (1, 2)]
    assert Run.load(killed).meta["status"] == "partial"


def test_a_resume_writes_through_no_link(killed: Path, command_line: CommandLine, sweeps: Sweeps) -> None:
    victim = killed.parent / "victim"
    victim.write_text("keep me")
    (killed / ".reserve").unlink(missing_ok=True)
    (killed / ".reserve").symlink_to(victim)
    sweeps.lines = measured(1)
    assert command_line.run("run", "--resume", "there")[0] == ExitCode.OK
    assert victim.read_text() == "keep me"
    (killed / "samples.jsonl").rename(killed / "moved")
    (killed / "samples.jsonl").symlink_to("moved")
    code, _, stderr = command_line.run("run", "--resume", "there")
    assert code == ExitCode.USAGE
    assert_one_message(stderr, ("samples.jsonl is a link",))


def test_a_run_that_is_continued_leaves_an_arm_out_of_the_case_in_which_it_ended_in_a_deadlock() -> None:
    config = resolve("cpu", {"scenario": "contended", "sizes": "8,64", "arms": "stream-free,torch"})
    cases = [planned.case for planned in make_plan(config, 4).cases]
    lines = [
        hang(case=cases[1], case_index=1, arm="torch:twin"),
        hang(case=cases[2], case_index=2, arm="stream-free", excludes_arm=True),
        hang(case=case(), arm="torch"),
    ]
    plan, spec = resumed_run.work_left(run(lines), config)
    assert len(plan.cases) == 4
    assert spec.deadlocks == ((1, "torch"), (2, "stream-free"))
    assert spec.excluded == ("stream-free",)
