"""Command lines, run in this process up to the point where ranks would start or a result would be printed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.cli import app, attached_run, dry_run, launched_run, main, recorded_verification, resumed_run
from nccl_bench.cli.output import OutputConfig
from nccl_bench.config.run import RunConfig
from nccl_bench.config.verification import VerifyConfig
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.launchers import Attachment
from nccl_bench.verify.record import VerificationRecord
from tests.support.command import without_numbers

ROOT = Path(__file__).parents[2]
RANKS = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
TORCHRUN = RANKS | {"TORCHELASTIC_RUN_ID": "none", "MASTER_PORT": "29500"}
# Variables that a launcher sets, or that change what is printed.
LAUNCHER_VARIABLES = (
    *TORCHRUN,
    *("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_STEP_ID", "CUDA_VISIBLE_DEVICES", "COLUMNS"),
)
TWO_NODES = ("--nnodes", "2", "--rdzv-endpoint", "node0:29500")
COMMANDS: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # of a group
# The package's attributes of these names are the commands.
REPORT = importlib.import_module("nccl_bench.cli.report")


def spellings(command: str) -> set[str]:
    """Return every spelling of every option of the command."""
    return {spelling for each in COMMANDS[command].params for spelling in each.opts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The effects of a command line; an absent effect is ``None``."""

    action: str
    config: RunConfig | VerifyConfig | None = None
    launch: LaunchConfig | None = None
    attachment: Attachment | None = None
    output: OutputConfig | None = None
    analysis: Analysis | None = None
    allow_recorded_code: bool | None = None
    printed: str = ""  # on standard output
    messages: str = ""  # on standard error


class CommandLine:
    """Runs command lines in the current directory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._observed: list[Observed] = []

    def observe(self, *arguments: str, env: Mapping[str, str] = {}) -> Observed:
        """Return what a valid command line leads to."""
        self._observed.clear()
        note = self._note
        with self._monkeypatch.context() as patch:
            patch.setattr(launched_run, "run_launched", lambda c, x, o: note("launched", config=c, launch=x, output=o))
            patch.setattr(
                attached_run, "run_attached", lambda c, x, o: note("attached", config=c, attachment=x, output=o)
            )
            patch.setattr(
                resumed_run, "resume_run", lambda _d, o, _given, **allowed: note("resumed", output=o, **allowed)
            )
            patch.setattr(dry_run, "show_plan", lambda c, *_n: note("planned", config=c))
            patch.setattr(
                REPORT,
                "print_report",
                lambda analysis, form, width, file, detail: note(
                    "reported",
                    analysis=analysis,
                    output=OutputConfig(out=file, format=form, width=width, detail=detail),
                ),
            )
            patch.setattr(recorded_verification, "run_recorded", self._verify)
            patch.setattr(
                recorded_verification,
                "resume_recorded",
                lambda _d, o, _given, **allowed: note("resumed", output=o, **allowed),
            )
            code, stdout, stderr = self.run(*arguments, env=env)
        assert code == 0, stderr
        facts: dict[str, Any] = {}
        for observed in self._observed or [Observed(action="printed", printed=stdout, messages=stderr)]:
            facts |= {name: value for name in observed.__slots__ if (value := getattr(observed, name))}
        return Observed(**facts)

    def run(self, *arguments: str, env: Mapping[str, str] = {}) -> tuple[int, str, str]:
        """Return the exit code, standard output, and standard error without the summary; ``stderr`` has all of it."""
        with self._monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["nccl-bench", *arguments])
            for name, value in env.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as end:
                main()
        captured = self._capsys.readouterr()
        self.stderr = captured.err
        return int(end.value.code or 0), captured.out, without_numbers(captured.err)

    def _verify(self, record: VerificationRecord, output: OutputConfig) -> None:
        launch = LaunchConfig(nproc=record.world_size)
        self._note("verified", config=record.config, launch=launch, output=output)

    def _note(self, action: str, **facts: Any) -> None:
        self._observed.append(Observed(action=action, **facts))


def run_process(*arguments: str, stdout: int = subprocess.PIPE) -> tuple[int, str, str]:
    """Return the exit code, standard output and standard error of a Python command line in a new process."""
    process = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return process.returncode, process.stdout or "", process.stderr


def assert_one_message(stderr: str, texts: tuple[str, ...]) -> None:
    """Assert that ``stderr`` is one message of the tool, with all ``texts`` in it."""
    assert stderr.startswith("nccl-bench: ")
    assert stderr.count("nccl-bench: ") == 1
    assert "Traceback" not in stderr
    assert all(text in stderr for text in texts), stderr


def snapshot(directory: Path) -> dict[str, bytes | None]:
    """Return all files and folders below a directory, with their content."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(directory.rglob("*"))}


def configured(name: str) -> Callable[[Observed], object]:
    """Return the function that returns the field ``name`` of the configuration."""
    return lambda observed: getattr(observed.config, name)


def sizes(observed: Observed) -> object:
    """Return the message sizes of the configuration of a run."""
    assert isinstance(observed.config, RunConfig)
    return observed.config.sizes
