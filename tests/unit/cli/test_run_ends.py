"""The end of a run by an error or by its last case: what was measured is kept and printed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.cli import attached_run, launched_run
from nccl_bench.cli.output import OutputConfig
from nccl_bench.config.run import resolve
from nccl_bench.errors import ExitCode, RecordError, SetupError, UsageError
from nccl_bench.launch.launchers import LauncherVariables
from nccl_bench.launch.sweep import Outcome
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Line, Skipped
from nccl_bench.records.store import RunStore
from tests.support.command_line import TORCHRUN, TWO_NODES, CommandLine, assert_one_message
from tests.support.swept_runs import swept
from tests.support.synthetic_runs import case, crash, hang, samples


@pytest.mark.parametrize("own", [{"library": "/new.so"}, {"variables": {"NCCL_ALGO": "Ring"}}])
def test_an_attached_rank_refuses_an_arm_that_needs_its_own_processes(own: dict[str, Any]) -> None:
    both = [{"name": name, "target": "torch", **own} for name in ("a", "b")]
    config = resolve("cuda", {"user_arms": both})
    attachment = LauncherVariables(environ=TORCHRUN, rdzv_endpoint=None).torchrun()
    with pytest.raises(UsageError, match=r"^a, b: an arm with its own variables, interpreter or libnccl needs"):
        attached_run.run_attached(config, attachment, OutputConfig())


def test_a_set_up_that_fails_on_a_relaunch_keeps_and_prints_the_measured_cases(
    directory: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launched_run, "run_sweep", swept(SetupError("no set-up"), [samples(), crash()]))
    code, stdout, stderr = command_line.run("run", "--out", "there")
    assert code == ExitCode.SETUP
    assert "gated latency" in stdout
    assert "FAILED" in stdout
    there = directory / "there"
    assert stderr == (
        f"nccl-bench: recorded in {there}; to measure the other cases: nccl-bench run --resume {there}\n"
        "nccl-bench: no set-up\n"
    )
    assert "stream-free" in (directory / "there" / "summary.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(("index", "size_bytes"), [(1, 2048), (-1, None), (2, None)])
def test_an_attached_rank_that_raises_records_where_and_keeps_the_measured_cases(
    index: int, size_bytes: int | None, directory: Path, attached: Callable[..., tuple[int, str, str]]
) -> None:
    code, stdout, stderr = attached(RuntimeError("Connection closed by peer"), [samples()], index)
    assert code == ExitCode.SETUP
    assert "gated latency" in stdout
    assert "CRASH: " in stdout
    assert f"recorded in {directory / 'there'}" in stderr
    run = Run.load(directory / "there")
    assert run.meta["status"] == "failed"
    line = run.lines[-1]
    assert isinstance(line, Crash)
    assert (line.case and line.case.size_bytes, line.case_index, line.arm, line.rank) == (size_bytes, index, "torch", 0)
    assert line.message == f"rank 0 on {line.host} ended with exit code 3: RuntimeError: Connection closed by peer"
    assert (directory / "there" / "summary.csv").read_text(encoding="utf-8").count("\n") == 3


@pytest.mark.parametrize("mode", ["launched", "attached"])
def test_a_run_that_measured_nothing_prints_only_the_error(
    mode: str,
    directory: Path,
    command_line: CommandLine,
    attached: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launched_run, "run_sweep", swept(SetupError("no set-up"), [crash(case=None)]))
    if mode == "attached":
        code, stdout, stderr = attached(SetupError("no set-up"), [], -1)
    else:
        code, stdout, stderr = command_line.run("run", "--launch", "--out", "there")
    assert (code, stdout) == (ExitCode.SETUP, "")
    assert_one_message(stderr, ("no set-up",))
    run = Run.load(directory / "there")
    assert run.meta["status"] == "failed"
    assert [type(line) for line in run.lines] == [Crash]


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ({}, ExitCode.OK),
        ({"crashes": (crash(),)}, ExitCode.SETUP),
        ({"hangs": (hang(),), "crashes": (crash(),)}, ExitCode.HANG),
        ({"crashes": (crash(),), "stopped": "the arm torch crashed in 3 cases running"}, ExitCode.SETUP),
    ],
)
def test_a_node_without_a_record_ends_with_the_code_of_its_hangs_and_crashes(
    outcome: dict[str, Any], code: ExitCode, directory: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launched_run, "run_sweep", swept(None, **outcome))
    ended, stdout, _ = command_line.run("run", *TWO_NODES, "--node-rank", "1", "--out", "there")
    assert (ended, stdout) == (code, "")
    assert not (directory / "there").exists()


@pytest.mark.parametrize(("line", "code"), [(hang(), ExitCode.HANG), (crash(), ExitCode.SETUP)])
def test_a_run_ends_with_the_code_of_its_worst_case_and_keeps_the_other_cases(
    line: Line, code: ExitCode, directory: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launched_run, "run_sweep", swept(None, [samples(), line]))
    ended, stdout, _ = command_line.run("run", "--out", "there")
    assert ended == code
    assert "gated latency" in stdout
    run = Run.load(directory / "there")
    assert (run.meta["status"], len(run.lines)) == ("partial", 2)


def test_a_run_whose_cases_were_all_skipped_fails_and_says_so(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launched_run, "run_sweep", swept(None, [Skipped(case=case(), reason="its buffers do not fit")]))
    code, stdout, _ = command_line.run("run", "--out", "there")
    assert code == ExitCode.SETUP
    assert "EMPTY: nothing was measured: 1 case skipped" in " ".join(stdout.split())


def test_a_run_whose_directory_is_removed_prints_what_was_measured_and_names_the_directory_once(
    directory: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_sweep(spec: Any, *_arguments: object, **_keywords: object) -> Outcome:
        store = RunStore(path=Path(spec.run_dir))
        store.append(samples())
        shutil.rmtree(store.path)
        store.append(samples("torch"))
        raise AssertionError("the store did not notice")

    monkeypatch.setattr(launched_run, "run_sweep", run_sweep)
    code, stdout, stderr = command_line.run("run", "--out", "deep/there")
    assert code == ExitCode.SETUP
    assert "gated latency" in stdout
    assert "FAILED" in stdout
    assert_one_message(stderr, (f"{directory / 'deep' / 'there'} was removed or renamed", "start again"))
    assert not (directory / "deep" / "there").exists()


def test_a_record_that_cannot_be_closed_costs_no_report_but_the_run_fails(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise RecordError("the disk is full")

    monkeypatch.setattr(RunStore, "finish", full)
    monkeypatch.setattr(RunStore, "write_summary", full)
    monkeypatch.setattr(launched_run, "run_sweep", swept(None, [samples()]))
    code, stdout, stderr = command_line.run("run", "--out", "there")
    assert code == ExitCode.SETUP
    assert "gated latency" in stdout
    # The state in run.json is still `running`, but the report knows better.
    assert "RUNNING" not in stdout
    assert_one_message(stderr, ("the disk is full",))


def test_an_attached_rank_on_a_full_disk_records_no_crash_of_an_arm(
    directory: Path, attached: Callable[..., tuple[int, str, str]]
) -> None:
    code, stdout, stderr = attached(RecordError("samples.jsonl cannot be written"), [samples()], 0)
    assert code == ExitCode.SETUP
    assert "gated latency" in stdout
    assert "CRASH" not in stdout
    assert "samples.jsonl cannot be written" in stderr
    assert Run.load(directory / "there").lines == (samples(),)


def test_a_run_that_ends_before_its_first_line_leaves_no_directory(
    directory: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launched_run, "run_sweep", swept(SetupError("no agent")))
    code, stdout, stderr = command_line.run("run", "--out", "deep/there")
    assert (code, stdout) == (ExitCode.SETUP, "")
    assert_one_message(stderr, ("no agent",))
    assert not (directory / "deep").exists()


@pytest.mark.parametrize("name", ["locked", "display_of"])
def test_an_error_between_the_creation_of_a_record_and_its_first_line_leaves_no_record(
    name: str, directory: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(launched_run, name, fail)
    code, _, stderr = command_line.run("run", "--out", "there")
    assert code == ExitCode.SETUP
    assert_one_message(stderr, ("Input/output error",))
    assert not (directory / "there").exists()
