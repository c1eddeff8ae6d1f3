"""``run --resume``: which cases it measures, what counts afterwards, and which runs it refuses."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.cli import launched_run, resumed_run
from nccl_bench.config.run import resolve
from nccl_bench.errors import ExitCode, InterruptedRunError
from nccl_bench.launch.sweep import Outcome
from nccl_bench.plan.cases import make_plan
from nccl_bench.plan.shuffling import cases_of_launches
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.locks import locked
from nccl_bench.records.run import Run
from nccl_bench.records.schema import CaseEnd, Entry, Samples
from nccl_bench.records.store import RESERVE, RunStatus, RunStore
from tests.support.command_line import TORCHRUN, CommandLine, assert_one_message, snapshot
from tests.support.synthetic_runs import case, crash, hang, run, samples

SIZES = "1K,2K,4K"
CASES = [planned.case for planned in make_plan(resolve("cpu", {"sizes": SIZES}), 2).cases]


def measured(index: int, *arms: str, **changes: Any) -> list[Entry]:
    """Return the lines of a case that was measured to its end."""
    return [
        *(samples(arm, case=CASES[index], **changes) for arm in arms or ("stream-free",)),
        CaseEnd(case=CASES[index]),
    ]


class Sweeps:
    """A replacement of ``run_sweep``: each sweep records its lines, and is interrupted unless all cases are done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.specs: list[WorkerSpec] = []
        self.lines: Sequence[Entry] = ()
        self.interrupted = False
        monkeypatch.setattr(launched_run, "run_sweep", self)

    def __call__(self, spec: WorkerSpec, *_arguments: object, **_keywords: object) -> Outcome:
        self.specs.append(spec)
        assert spec.run_dir is not None
        RunStore(path=Path(spec.run_dir)).append(*self.lines)
        if self.interrupted:
            raise InterruptedRunError("interrupted by SIGINT")
        return Outcome(hangs=(), crashes=(), stopped=None)


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    return Sweeps(monkeypatch)


@pytest.fixture
def killed(command_line: CommandLine, sweeps: Sweeps, directory: Path) -> Path:
    """The directory of a run whose command was killed in its second case, while it wrote a line."""
    sweeps.lines = [*measured(0), samples(case=CASES[1], samples_us=(1.0, 1.0, 1.0))]
    sweeps.interrupted = True
    assert command_line.run("run", "--sizes", SIZES, "--out", "there")[0] == ExitCode.INTERRUPTED
    sweeps.interrupted = False
    store = RunStore(path=directory / "there")
    store.update(status=RunStatus.RUNNING, finished=None, started="2026-01-01T00:00:00+00:00")
    with (store.path / "samples.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"kind": "sam')
    return store.path


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


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--arms", "torch"), "--arms"),
        (("mine.toml",), "config"),
        (("-n", "3", "--out", "x"), "--iters, --out"),
        (("--dry-run",), "--dry-run"),
    ],
)
def test_an_option_of_a_new_run_is_refused(
    options: tuple[str, ...], named: str, killed: Path, command_line: CommandLine, sweeps: Sweeps
) -> None:
    code, _, stderr = command_line.run("run", "--resume", "there", *options)
    assert code == ExitCode.USAGE
    assert_one_message(stderr, (f"leave out {named}. Only --format, --fail-on, --width, --quiet and --full",))
    assert len(sweeps.specs) == 1


def changed(**changes: object) -> Any:
    return lambda path, patch: RunStore(path=path).update(**changes)


def other_machine(_path: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(resumed_run, "collect", lambda: {"hostname": "another"})


def under_torchrun(_path: Path, patch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        patch.setenv(name, value)


LAUNCH = {"mode": "torchrun", "world_size": 2, "nproc": 2, "nnodes": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_machine, "hostname is another, and was "),
        (changed(version="0.0.1"), "nccl-bench is "),
        (changed(cases=None), "an older version"),
        (changed(launch=LAUNCH | {"mode": "attached: srun"}), "another launcher started"),
        (changed(launch=LAUNCH | {"nnodes": 2}), "on several nodes"),
        (changed(launch=LAUNCH | {"nproc": None}), "names 2 ranks, None of them on its one node"),
        (changed(launch=LAUNCH | {"nproc": 100_000, "world_size": 100_000}), "at most 1,024 ranks"),
        (changed(config={"device": "tpu", "baseline": "torch", "arms": ["torch"]}), "device is 'tpu'"),
        (under_torchrun, "outside of that launch"),
    ],
)
def test_a_run_that_cannot_be_continued_here_is_refused_and_stays_as_it_is(
    change: Any, reason: str, killed: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(killed, monkeypatch)
    before = snapshot(killed)
    code, stdout, stderr = command_line.run("run", "--resume", "there")
    assert (code, stdout) == (ExitCode.USAGE, "")
    assert_one_message(stderr, (reason,))
    assert snapshot(killed) == before


def test_a_value_that_the_record_does_not_hold_is_asked_for_and_given_again(
    killed: Path, command_line: CommandLine, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "")  # so that the value is gone after this test
    RunStore(path=killed).update(config={**Run.load(killed).meta["config"], "variables": {"WANDB_API_KEY": "set"}})
    code, _, stderr = command_line.run("run", "--resume", "there")
    assert code == ExitCode.USAGE
    assert_one_message(stderr, ("the value of WANDB_API_KEY", "--resume there --env WANDB_API_KEY=VALUE"))
    sweeps.lines = measured(1)
    code, stdout, stderr = command_line.run("run", "--resume", "there", "--env", "WANDB_API_KEY=hunter2")
    assert sweeps.specs[1].config.variables == {"WANDB_API_KEY": "hunter2"}
    written = [file.read_text() for file in killed.iterdir() if file.is_file()]
    assert "hunter2" not in "".join([stdout, stderr, *written])


CODE = "NAMED_CODE_RAN = open('ran', 'w')\ndef make(group, device, library_path=None): ...\n"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"user_arms": [{"name": "mine", "target": "planted.py:make"}]}, "the arm mine: planted.py:make"),
        ({"user_arms": [{"name": "mine", "target": "torch", "python": "./planted"}]}, "the arm mine: python ./planted"),
        ({"variables": {"LD_PRELOAD": "planted.so"}}, "LD_PRELOAD=planted.so"),
        ({"variables": {"NCCL_TUNER_PLUGIN": "/tmp/planted.so"}}, "NCCL_TUNER_PLUGIN=/tmp/planted.so"),
    ],
)
def test_a_resume_runs_no_code_that_a_record_names_unless_the_user_allows_it(
    change: dict[str, Any],
    named: str,
    killed: Path,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("planted.py").write_text(CODE)
    Path("planted").write_text("#!/bin/sh\ntouch ran\n")
    Path("planted").chmod(0o755)
    monkeypatch.setattr(resumed_run, "collect", lambda: pytest.fail("the variables had an effect"))
    config = Run.load(killed).meta["config"]
    arms = [*config["arms"], *(["mine"] if "user_arms" in change else [])]
    RunStore(path=killed).update(config={**config, **change, "arms": arms})
    for name in change.get("variables", {}):
        monkeypatch.setenv(name, "")  # so that its value is gone after this test
    environment = dict(os.environ)
    code, stdout, stderr = command_line.run("run", "--resume", "there")
    assert (code, stdout) == (ExitCode.USAGE, "")
    assert_one_message(stderr, (named, "add --allow-recorded-code"))
    assert dict(os.environ) == environment
    assert not Path("ran").exists()
    with pytest.raises(pytest.fail.Exception, match="had an effect"):
        command_line.run("run", "--resume", "there", "--allow-recorded-code")


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


def test_a_run_that_another_command_measures_is_refused(killed: Path, command_line: CommandLine) -> None:
    with (killed / "samples.jsonl").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _, stderr = command_line.run("run", "--resume", "there")
    assert code == ExitCode.USAGE
    assert_one_message(stderr, ("another command writes there at present",))


@pytest.mark.parametrize("command", ["run", "verify"])
@pytest.mark.parametrize(("path", "text"), [("nosuch", "does not exist"), ("mine.toml", "is a file")])
def test_a_resume_of_something_else_than_a_directory_is_refused(
    path: str, text: str, command: str, command_line: CommandLine
) -> None:
    code, _, stderr = command_line.run(command, "--resume", path)
    assert code == ExitCode.USAGE
    assert_one_message(stderr, (f"--resume is {path}, which {text}: give the directory of a record",))


def test_a_directory_without_a_run_is_refused(command_line: CommandLine) -> None:
    code, _, stderr = command_line.run("run", "--resume", "x")
    assert code == ExitCode.SETUP
    assert_one_message(stderr, ("x is not a run",))


def test_a_gate_of_one_arm_is_refused_in_a_resume_too(
    directory: Path, command_line: CommandLine, sweeps: Sweeps
) -> None:
    sweeps.lines = measured(0, "torch")
    command_line.run("run", "--sizes", SIZES, "--arms", "torch", "--out", "there")
    code, _, stderr = command_line.run("run", "--resume", "there", "--fail-on", "slower")
    assert code == ExitCode.USAGE
    assert_one_message(stderr, ("a run of one arm compares nothing",))


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
