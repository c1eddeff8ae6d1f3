"""Start the real command in its own process, plant faults in its workers, and find what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nccl_bench.records.run import Run

ROOT = Path(__file__).parents[2]
FAULTS = Path(__file__).parent / "faults"
_MARK = "NCCL_BENCH_TEST"
# Variables by which a process detects a launcher or a GPU, or formats its output. The tests set their own.
_REMOVED_PREFIXES = (
    "OMPI_",
    "PMI_",
    "PMIX_",
    "SLURM_",
    "TORCHELASTIC_",
    "CUDA_VISIBLE_DEVICES",
    "COLUMNS",
    "FORCE_COLOR",
)
_IN_TURN = """
import contextlib, io, json, sys
from nccl_bench.cli import main

ends = []
for arguments in json.loads(sys.argv[1]):
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["nccl-bench", *arguments]
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    ends.append((code, stdout.getvalue(), stderr.getvalue()))
print(json.dumps(ends))
"""
_RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def without_numbers(stderr: str) -> str:
    """Return ``stderr`` without what depends on the machine's speed: lines of progress, and the summary at the end."""
    text = re.sub(r"(?m)^nccl-bench: \d+ of \d+ (case|probe)s, \d+ s, about .*\n", "", stderr)
    text = re.sub(r"(?m)^nccl-bench: \d+ s, [^;\n]*warnings?; recorded in", "nccl-bench: recorded in", text)
    return re.sub(r"(?m)^nccl-bench: \d+ s, [^;\n]*warnings?\n", "", text)


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """A command that has ended."""

    code: int  # exit code; the negative number of the signal that killed it
    stdout: str  # everything it printed there
    stderr: str  # everything it printed there


class Sandbox:
    """A working directory, a directory for temporary files, and an environment that marks every process started."""

    def __init__(self, path: Path, limit_s: float = 100) -> None:
        self.limit_s = limit_s  # the time after which a command that still runs is killed
        self.cwd = path / "cwd"
        self.temporary = path / "temporary"
        self.cwd.mkdir(parents=True)
        self.temporary.mkdir()
        self._mark = f"{_MARK}={path}"

    def environment(self, faults: Sequence[Mapping[str, object]] = (), **extra: str) -> dict[str, str]:
        """Return the variables of a process without GPUs, with ``faults`` for ``faults/sitecustomize.py``."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_REMOVED_PREFIXES)}
        path = [str(FAULTS), str(ROOT)] if faults else [str(ROOT)]
        return {
            **{name: value for name, value in kept.items() if name not in _RANK_VARIABLES},
            _MARK: self._mark.partition("=")[2],
            "CUDA_VISIBLE_DEVICES": "",
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": os.pathsep.join(path),
            "PLANTED_FAULTS": json.dumps(list(faults)),
            **extra,
        }

    def start(
        self, *command: str, env: Mapping[str, str] | None = None, within: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        """Start Python with ``command`` as its arguments, after the words ``within``."""
        return subprocess.Popen(
            [*within, sys.executable, *command],
            cwd=self.cwd,
            env=self.environment() if env is None else env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start_quietly(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start ``python -m nccl_bench``. Its output goes into the files ``stdout`` and ``stderr`` of ``cwd``.

        The process ignores no signal, even if this one does, as it does in a background job or under nohup.
        """

        def reset_signals() -> None:
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)

        with (self.cwd / "stdout").open("w") as stdout, (self.cwd / "stderr").open("w") as stderr:
            return subprocess.Popen(
                [sys.executable, "-m", "nccl_bench", *arguments],
                cwd=self.cwd,
                env=self.environment() if env is None else env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                text=True,
                preexec_fn=reset_signals,
            )

    def nccl_bench(self, *arguments: str, env: Mapping[str, str] | None = None) -> CommandResult:
        """Run ``python -m nccl_bench`` and wait for its end."""
        return self.wait(self.start("-m", "nccl_bench", *arguments, env=env))

    def in_turn(self, *command_lines: Sequence[str], env: Mapping[str, str] | None = None) -> list[CommandResult]:
        """Run command lines of nccl-bench in one process, since each process takes a second to start."""
        ended = self.wait(self.start("-c", _IN_TURN, json.dumps(command_lines), env=env))
        assert ended.code == 0, ended.stderr
        return [
            CommandResult(code=code, stdout=stdout, stderr=without_numbers(stderr))
            for code, stdout, stderr in json.loads(ended.stdout)
        ]

    def wait(self, process: subprocess.Popen[str], timeout_s: float | None = None) -> CommandResult:
        """Wait for the end of ``process``. Kill it and fail the test if it still runs after ``timeout_s``.

        Without ``timeout_s``, it is ``limit_s``.
        """
        timeout_s = self.limit_s if timeout_s is None else timeout_s
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            for pid in {process.pid, *self.processes()}:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            raise AssertionError(f"still running after {timeout_s} s:\n{stdout}\n{stderr}") from None
        return CommandResult(code=process.returncode, stdout=stdout, stderr=without_numbers(stderr))

    def processes(self) -> list[int]:
        """Return the ids of all living processes that were started here, children of children too."""
        ids = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            # A process may end meanwhile, a zombie's environment is empty, and another user's is not readable.
            with suppress(OSError):
                if self._mark.encode() in path.read_bytes().split(b"\0"):
                    ids.append(int(path.parent.name))
        return ids

    def assert_nothing_is_left(self) -> None:
        """Fail if a process or a temporary file is left."""
        assert self.processes() == []
        left = list(self.temporary.rglob("*"))
        assert left == [], left

    def only_run(self) -> Run:
        """Load the only run in ``results``."""
        (directory,) = (self.cwd / "results").iterdir()
        return Run.load(directory)


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str], timeout_s: float = 60) -> None:
    """Wait until ``condition`` holds. Fail if ``process`` ends before."""
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.05)


def gpu_sandbox(path: Path) -> Sandbox:
    """Return a sandbox whose processes see the GPUs.

    A verification of two arms takes 40 s on two GPUs, and more than twice as long beside three other tests.
    """
    sandbox = Sandbox(path, limit_s=280)
    environment = sandbox.environment

    def with_gpus(*faults: object, **extra: str) -> dict[str, str]:
        return {name: value for name, value in environment(**extra).items() if name != "CUDA_VISIBLE_DEVICES"}

    sandbox.environment = with_gpus  # type: ignore[assignment,method-assign]
    return sandbox
