"""Whatever can be compared, read from a path: a run's directory, its ``summary.csv``, or what nccl-tests wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from nccl_bench.analysis.sources import Cell, Source
from nccl_bench.analysis.summary import failures
from nccl_bench.catalog.arms import TWIN_SUFFIX
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.errors import ExitCode
from nccl_bench.records import importers
from nccl_bench.records.run import RUN, SUMMARY, Run
from nccl_bench.records.schema import Crash, Hang, Samples, Status
from nccl_bench.records.summary_csv import NUMBERS, read_summary

# What rows without a time have earned, as ``failures`` has it of lines; an ``ok`` one is of a cell with no batch kept.
_EARNED = {
    Status.WRONG.value: ExitCode.WRONG_RESULT,
    Hang.kind: ExitCode.HANG,
    Crash.kind: ExitCode.SETUP,
    Status.OK.value: ExitCode.SETUP,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What is at ``path``; ``meta`` is its ``run.json``, ``run`` is ``None`` where only medians are left of it.

    ``earned`` is the exit code of what went wrong in it, ``left_out`` how many rows of a summary have no time, by their
    status.
    """

    path: Path
    source: Source
    meta: Mapping[str, Any]
    run: Run | None
    earned: ExitCode
    left_out: Mapping[str, int]
    warnings: tuple[str, ...]

    def same_as(self, other: Loaded) -> bool:
        """Whether it is the same run once more, here or as a copy: two runs never have the same times."""
        if _origin(self.path) == _origin(other.path):
            return True
        if self.run is None or other.run is None:
            return _written(self.source) == _written(other.source)
        return _launch(self.meta) == _launch(other.meta) and self.run.lines == other.run.lines


def load(path: Path) -> Loaded:
    """The run at ``path``; raises ``RecordError`` for what is none."""
    if path.is_dir():
        return _of_run(Run.load(path), path)
    if path.suffix == ".csv":
        return _of_csv(path)
    imported = importers.read(path)
    return _of_run(Run(meta=imported.meta(), lines=imported.lines), path)


def _of_run(run: Run, path: Path) -> Loaded:
    cells: dict[tuple[Case, Timing, str], dict[int, float]] = {}
    for line in run.lines:
        if isinstance(line, Samples) and line.status is Status.OK and line.samples_us:
            cells[line.case, line.timing, line.arm] = dict(zip(line.rounds, line.samples_us, strict=True))
    # A single round tells nothing about how much rounds vary.
    summary = bool(cells) and max(map(len, cells.values())) < 2
    return Loaded(
        path=path,
        source=Source(name=str(path), arms=run.arms, cells=cells, summary=summary),
        meta=run.meta,
        run=run,
        earned=failures(run.lines),
        left_out={},
        warnings=(*run.warnings, *_unfinished(run)),
    )


def _unfinished(run: Run) -> list[str]:
    status = run.meta["status"]
    return [] if status == "complete" else [f"the run is {status}, and what it did not get to is missing here"]


def _of_csv(path: Path) -> Loaded:
    medians = read_summary(path)
    measured = (arm for _, _, arm in medians.times_us if not arm.endswith(TWIN_SUFFIX))
    arms = tuple(dict.fromkeys((medians.baseline, *measured)))
    return Loaded(
        path=path,
        source=Source(
            name=str(path), arms=arms, cells={key: {0: us} for key, us in medians.times_us.items()}, summary=True
        ),
        meta={"launch": {"world_size": medians.world_size}, "config": {"baseline": medians.baseline}},
        run=None,
        earned=next((code for status, code in _EARNED.items() if status in medians.left_out), ExitCode.OK),
        left_out=medians.left_out,
        warnings=("a summary has no intervals, and does not say which machine it is from",),
    )


def _origin(path: Path) -> Path:
    """Where the run is that ``path`` is of: a summary beside its ``run.json`` is that directory's."""
    found = path.resolve()
    return found.parent if found.name == SUMMARY and (found.parent / RUN).exists() else found


def _written(source: Source) -> dict[Cell, str]:
    """The medians of all cells, as a summary has them."""
    return {cell: NUMBERS % median(times_us.values()) for cell, times_us in source.cells.items()}


def _launch(meta: Mapping[str, Any]) -> tuple[object, ...]:
    return meta["started"], meta["environment"].get("hostname"), meta["environment"].get("hostnames")
