"""The questions of shells when the user presses Tab, and the answers that they need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nccl_bench.cli.guide import TOPICS
from nccl_bench.config.options import options_of
from nccl_bench.config.presets import presets
from nccl_bench.config.run import RunConfig
from nccl_bench.config.verification import VerifyConfig
from nccl_bench.report.listing import sections
from tests.support.command_line import ROOT, CommandLine

# The questions of the three shells: a command line whose last word is incomplete, in the variables of each shell.
SHELLS = ("bash", "zsh", "fish")


def question(shell: str, line: str) -> dict[str, str]:
    action = {"_NCCL_BENCH_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        return action | {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    return action | {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}


def offered(command_line: CommandLine, line: str, shell: str = "bash") -> list[str]:
    code, stdout, stderr = command_line.run(env=question(shell, f"nccl-bench {line}"))
    assert (code, stderr) == (0, "")
    return stdout.split()


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("run --arms stream-free,dedicated-stream-", ["stream-free,dedicated-stream-wait-stream"]),
        ("run --timing eager,g", ["eager,gated", "eager,graph"]),
        ("run --collective all_r", ["all_reduce"]),
        ("run -d bf", ["bfloat16"]),
        ("run -o m", ["min", "max"]),
        ("run --device c", ["cuda", "cpu"]),
        ("run --baseline torch-", ["torch-async"]),
        ("run --preset ", list(presets())),
        ("run --fail-on slower,", ["slower,inconclusive", "slower,wrong"]),
        ("run --format m", ["markdown"]),
        ("verify --probes prod", ["producer"]),
        ("doctor --format ", ["terminal", "markdown", "json"]),
        ("guide ", list(TOPICS)),
        ("list ", list(sections())),
        ("compa", ["compare"]),
        ("run --dry", ["--dry-run"]),
        # The shell offers files instead.
        ("report a-", []),
    ],
)
def test_commands_options_and_values_are_offered(line: str, values: list[str], command_line: CommandLine) -> None:
    assert sorted(offered(command_line, line)) == sorted(values)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_is_answered(shell: str, command_line: CommandLine) -> None:
    answer = "\n".join(offered(command_line, "run --caller-stream ", shell))
    assert "side" in answer
    assert "default" in answer


@pytest.mark.parametrize("config", [RunConfig, VerifyConfig])
def test_every_option_whose_help_lists_names_offers_them(config: type) -> None:
    for option in options_of(config).values():
        if option.help.startswith(("One of ", "One or more of ", "Built-in arms")):
            assert option.choices, option.name
        assert all(choice in option.full_help for choice in option.choices if option.name != "baseline"), option.name


def test_bash_offers_values_after_its_script_is_read(tmp_path: Path) -> None:
    program = tmp_path / "nccl-bench"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m nccl_bench "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    script = (
        'eval "$(_NCCL_BENCH_COMPLETE=source_bash nccl-bench)"\n'
        "COMP_WORDS=(nccl-bench run --timing gr); COMP_CWORD=3\n"
        "$(complete -p nccl-bench | sed 's/.*-F \\([^ ]*\\) .*/\\1/') nccl-bench\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    bash = subprocess.run(
        [shutil.which("bash") or "bash", "--norc"],
        input=script,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (bash.stdout, bash.stderr) == ("graph\n", "")


@pytest.mark.parametrize(
    ("shell", "file"),
    [
        ("bash", ".bash_completions/nccl-bench.sh"),
        ("zsh", ".zfunc/_nccl-bench"),
        ("fish", ".config/fish/completions/nccl-bench.fish"),
    ],
)
def test_one_command_installs_completion(shell: str, file: str, tmp_path: Path) -> None:
    # With this variable, Typer takes the name of the shell from the command line, and not from the processes above.
    environ = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    installed = subprocess.run(
        [sys.executable, "-m", "nccl_bench", "--install-completion", shell],
        env=environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    assert f"{shell} completion installed in {tmp_path / file}" in installed.stdout
    assert f"_NCCL_BENCH_COMPLETE=complete_{shell}" in (tmp_path / file).read_text(encoding="utf-8")
