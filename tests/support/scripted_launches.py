"""Launches without processes: each writes the files that its ranks would write."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nccl_bench.launch.config import LaunchConfig
from nccl_bench.ranks.failure import Failure
from nccl_bench.ranks.progress import Progress

# One launch: writes into its scratch directory and returns its exit code, or None while it still runs.
Act = Callable[[Path], int | None]


def ranks(scratch: Path) -> list[Progress]:
    return [Progress(scratch, rank, rank) for rank in (0, 1)]


def finishes(scratch: Path) -> int | None:
    for progress in ranks(scratch):
        progress.finish()
    return 0


def finishes_on(processes: int) -> Act:
    """Return the act of a launch whose ``processes`` processes all finish."""

    def act(scratch: Path) -> int | None:
        for rank in range(processes):
            Progress(scratch, rank, rank).finish()
        return 0

    return act


def stays(scratch: Path) -> int | None:
    """Finish all ranks, but do not end their processes."""
    finishes(scratch)
    return None


def hangs(case_index: int, arm: str = "a", *, exit_code: int | None = None) -> Act:
    """Return the act of a launch in which rank 1 hangs and both ranks' deadlines have passed."""

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
    """A replacement of ``Agent`` and its ``Job``: launch number n does act number n."""

    acts: tuple[Act, ...]
    scratch: Path = field(default_factory=lambda: Path(tempfile.mkdtemp()))
    cases: list[tuple[int, ...]] = field(default_factory=list)
    excluded: list[tuple[str, ...]] = field(default_factory=list)
    deadlocks: list[tuple[tuple[int, str], ...]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    scratches: list[Path] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)
    running: int = 0
    exit_code: int | None = None

    def start(self, launch: LaunchConfig, spec: Any) -> Launches:
        assert spec.scratch is not None
        assert launch.nproc == 2 * spec.processes_per_rank
        assert not self.running
        self.running = 1
        self.cases.append(spec.cases)
        self.excluded.append(getattr(spec, "excluded", ()))
        self.deadlocks.append(getattr(spec, "deadlocks", ()))
        self.numbers.append(getattr(spec, "launch", 1))
        self.processes.append(launch.nproc)
        self.scratches.append(Path(spec.scratch))
        self.exit_code = self.acts[len(self.scratches) - 1](Path(spec.scratch))
        return self

    def poll(self) -> int | None:
        return self.exit_code

    def wait(self, limit_s: float) -> None:
        """Return immediately: an act ends before its launch starts."""

    def end_processes(self, processes: Iterable[int]) -> None:
        raise AssertionError("every rank of an act has the process of the test")

    def stop(self) -> None:
        self.running = 0
