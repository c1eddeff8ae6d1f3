"""The real command in a process of its own, what it leaves behind, and faults planted in its workers."""

from __future__ import annotations

import json
import os
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
# What tells a process that somebody launched it, or changes what it prints.
_FOREIGN = ("OMPI_", "PMI_", "PMIX_", "SLURM_", "TORCHELASTIC_", "CUDA_VISIBLE_DEVICES", "COLUMNS", "FORCE_COLOR")
_OF_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """How a command ended, and what it printed."""

    code: int
    stdout: str
    stderr: str


class Sandbox:
    """A current directory, a directory for temporary files, and an environment that marks every process it starts."""

    def __init__(self, path: Path) -> None:
        self.cwd = path / "cwd"
        self.temporary = path / "temporary"
        self.cwd.mkdir(parents=True)
        self.temporary.mkdir()
        self._mark = f"{_MARK}={path}"

    def environment(self, faults: Sequence[Mapping[str, object]] = (), **extra: str) -> dict[str, str]:
        """Variables for a process without GPUs; ``faults`` are those of ``faults/sitecustomize.py``."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        path = [str(FAULTS), str(ROOT)] if faults else [str(ROOT)]
        return {
            **{name: value for name, value in kept.items() if name not in _OF_RANKS},
            _MARK: self._mark.partition("=")[2],
            "CUDA_VISIBLE_DEVICES": "",
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": os.pathsep.join(path),
            "PLANTED_FAULTS": json.dumps(list(faults)),
            **extra,
        }

    def start(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a Python command line in this place."""
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.cwd,
            env=self.environment() if env is None else env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def nccl_bench(self, *arguments: str, env: Mapping[str, str] | None = None) -> CommandResult:
        """Run ``python -m nccl_bench`` to its end."""
        return self.wait(self.start("-m", "nccl_bench", *arguments, env=env))

    def wait(self, process: subprocess.Popen[str], timeout_s: float = 100) -> CommandResult:
        """The end of ``process``; whatever still runs after ``timeout_s`` is killed and fails the test."""
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            for pid in {process.pid, *self.processes()}:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            raise AssertionError(f"still running after {timeout_s} s:\n{stdout}\n{stderr}") from None
        return CommandResult(code=process.returncode, stdout=stdout, stderr=stderr)

    def processes(self) -> list[int]:
        """The ids of all living processes that were started from here, by whatever generation."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            # It may end at any moment; a zombie's environment is empty, and other users' cannot be read.
            with suppress(OSError):
                if self._mark.encode() in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def assert_nothing_is_left(self) -> None:
        """No process, and no temporary file."""
        assert self.processes() == []
        assert list(self.temporary.iterdir()) == []

    def the_run(self) -> Run:
        """The one run in ``results``."""
        (directory,) = (self.cwd / "results").iterdir()
        return Run.load(directory)


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str], timeout_s: float = 60) -> None:
    """Wait for ``condition`` while ``process`` runs."""
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.05)
