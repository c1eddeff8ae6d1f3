"""Runs and options that ``run --resume`` refuses."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.cli import resumed_run
from nccl_bench.errors import ExitCode
from nccl_bench.records.run import Run
from nccl_bench.records.store import RunStore
from tests.support.command_line import TORCHRUN, CommandLine, assert_one_message, snapshot
from tests.support.resumed_runs import SIZES, Sweeps, measured


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
        (changed(launch=LAUNCH | {"nproc": None}), "names 2 ranks, but None of them on its only node"),
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
