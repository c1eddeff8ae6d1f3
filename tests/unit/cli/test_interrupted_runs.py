"""Signals during a command: one message, its exit code, and no measured case is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.cli import launched_run, recorded_run
from nccl_bench.cli.progress import Lines
from nccl_bench.errors import ExitCode, InterruptedRunError
from nccl_bench.records.run import Run
from nccl_bench.records.schema import CaseEnd
from nccl_bench.records.store import RunStore
from tests.support.command_line import COMMANDS, REPORT, CommandLine, assert_one_message, run_process
from tests.support.swept_runs import swept
from tests.support.synthetic_runs import case, samples


def interrupt(*_arguments: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("arguments", [("run",), ("report", "a-run")])
def test_ctrl_c_is_one_message_and_130(
    arguments: tuple[str, ...], command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launched_run, "run_launched", interrupt)
    monkeypatch.setattr(REPORT, "print_report", interrupt)
    code, stdout, stderr = command_line.run(*arguments)
    assert (code, stdout) == (ExitCode.INTERRUPTED, "")
    assert_one_message(stderr, ("interrupted",))


@pytest.mark.parametrize("module", ["nccl_bench.cli", "nccl_bench.cli.run", "nccl_bench.config.options"])
def test_ctrl_c_while_modules_are_imported_is_one_message_and_130(module: str) -> None:
    program = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from nccl_bench.__main__ import main\n"
        "main()\n"
    )
    assert run_process("-c", program, "list") == (ExitCode.INTERRUPTED, "", "nccl-bench: interrupted\n")


def test_ctrl_c_outside_of_any_command_is_one_message_and_130(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(COMMANDS["list"].__class__, "parse_args", interrupt)
    assert command_line.run("list") == (ExitCode.INTERRUPTED, "", "nccl-bench: interrupted\n")


def test_ctrl_c_in_an_attached_rank_keeps_and_prints_the_measured_cases(
    directory: Path, attached: Callable[..., tuple[int, str, str]]
) -> None:
    code, stdout, stderr = attached(KeyboardInterrupt(), [samples()])
    assert code == ExitCode.INTERRUPTED
    assert "gated latency" in stdout
    assert "INTERRUPTED" in stdout
    assert "what was measured before is kept" in stderr
    run = Run.load(directory / "there")
    assert run.meta["status"] == "interrupted"
    assert len(run.lines) == 1
    assert "stream-free" in (directory / "there" / "summary.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("mode", ["launched", "attached"])
def test_a_second_signal_loses_no_measured_case(
    mode: str,
    number: signal.Signals,
    directory: Path,
    command_line: CommandLine,
    attached: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finish, show = RunStore.finish, recorded_run.print_report

    def interrupted_finish(store: RunStore, status: Any) -> Any:
        os.kill(os.getpid(), number)
        return finish(store, status)

    def interrupted_show(*arguments: Any, **options: Any) -> None:
        os.kill(os.getpid(), number)
        show(*arguments, **options)

    def fail(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RunStore, "finish", interrupted_finish)
    monkeypatch.setattr(recorded_run, "print_report", interrupted_show)
    before = signal.signal(number, fail)
    try:
        if mode == "attached":
            code, stdout, stderr = attached(KeyboardInterrupt(), [samples()])
        else:
            error = InterruptedRunError("interrupted by SIGINT")
            monkeypatch.setattr(launched_run, "run_sweep", swept(error, [samples()]))
            code, stdout, stderr = command_line.run("run", "--launch", "--out", "there")
        assert signal.getsignal(number) is fail
    finally:
        signal.signal(number, before)
    assert code == ExitCode.INTERRUPTED
    assert "gated latency" in stdout
    assert f"recorded in {directory / 'there'}" in stderr
    assert "interrupted by SIGINT; what was measured before is kept\n" in stderr
    assert Run.load(directory / "there").meta["status"] == "interrupted"
    assert "stream-free" in (directory / "there" / "summary.csv").read_text(encoding="utf-8")


def test_a_signal_between_the_sweep_and_the_closing_is_ignored(
    directory: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Lines.__exit__

    def interrupted_stop(self: Lines, *exception: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        stop(self, *exception)

    monkeypatch.setattr(Lines, "__exit__", interrupted_stop)
    monkeypatch.setattr(launched_run, "run_sweep", swept(None, [samples(), CaseEnd(case=case())]))
    assert command_line.run("run", "--sizes", "1K", "--out", "there")[0] == ExitCode.OK
    assert Run.load(directory / "there").meta["status"] == "complete"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (recorded_run, "collect"),
        (launched_run, "create_record"),
        (launched_run, "locked"),
        (launched_run, "display_of"),
    ],
)
def test_a_signal_while_a_run_is_prepared_ends_it_without_a_record(
    module: Any,
    name: str,
    number: signal.Signals,
    directory: Path,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    function = getattr(module, name)

    def interrupted(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        os.kill(os.getpid(), number)
        return result

    monkeypatch.setattr(module, name, interrupted)
    code, stdout, stderr = command_line.run("run", "--out", "there")
    assert (code, stdout) == (ExitCode.INTERRUPTED, "")
    assert_one_message(stderr, (f"interrupted by {number.name}",))
    assert not (directory / "there").exists()


def test_an_interrupted_run_says_how_to_measure_the_rest_and_its_json_has_its_end(
    directory: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launched_run, "run_sweep", swept(InterruptedRunError("interrupted by SIGINT"), [samples()]))
    code, stdout, stderr = command_line.run("run", "--out", "a there", "--format", "json")
    assert code == ExitCode.INTERRUPTED
    assert f"to measure the other cases: nccl-bench run --resume '{directory / 'a there'}'\n" in stderr
    ended = Run.load(directory / "a there").meta["finished"]
    assert ended is not None
    assert f'"finished": "{ended}"' in stdout
