"""Launches without processes: each writes what its ranks would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nccl_bench.launch.torchrun import LaunchConfig
from nccl_bench.ranks.failure import Failure
from nccl_bench.ranks.progress import Progress

# What a launch does: writes into its scratch directory, and returns torchrun's exit code, None for one that goes on.
Act = Callable[[Path], int | None]


def ranks(scratch: Path) -> list[Progress]:
    return [Progress(scratch, rank, rank) for rank in (0, 1)]


def finishes(scratch: Path) -> int | None:
    for progress in ranks(scratch):
        progress.finish()
    return 0


def finishes_on(processes: int) -> Act:
    """Of a launch that has so many."""

    def act(scratch: Path) -> int | None:
        for rank in range(processes):
            Progress(scratch, rank, rank).finish()
        return 0

    return act


def stays(scratch: Path) -> int | None:
    """Everything is done, and the processes do not leave."""
    finishes(scratch)
    return None


def hangs(case_index: int, arm: str = "a", *, exit_code: int | None = None) -> Act:
    """Rank 1 does not come along, and both ranks' deadlines have passed."""

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
    """Stands in for ``Job``: the n-th launch does the n-th act."""

    acts: tuple[Act, ...]
    first_cases: list[int] = field(default_factory=list)
    excluded: list[tuple[str, ...]] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    scratches: list[Path] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)
    running: int = 0
    exit_code: int | None = None

    def __call__(self, launch: LaunchConfig, spec: Any, attempt: int) -> Launches:
        assert spec.scratch is not None
        assert launch.nproc == 2 * spec.processes_per_rank
        assert not self.running
        self.running = 1
        self.first_cases.append(spec.first_case)
        self.excluded.append(getattr(spec, "excluded", ()))
        self.attempts.append(attempt)
        self.processes.append(launch.nproc)
        self.scratches.append(Path(spec.scratch))
        self.exit_code = self.acts[len(self.attempts) - 1](Path(spec.scratch))
        return self

    def poll(self) -> int | None:
        return self.exit_code

    def stop(self) -> None:
        self.running = 0
