"""Loading of runs that are compared. A path names a run's directory, a ``summary.csv``, or the output of nccl-tests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nccl_bench.analysis.cells import Cell, Cells
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.description import status_text
from nccl_bench.analysis.failures import exit_code_of, exit_code_of_statuses
from nccl_bench.catalog.arms import TWIN_SUFFIX
from nccl_bench.errors import ExitCode
from nccl_bench.records import importers
from nccl_bench.records.anonymity import Aliases
from nccl_bench.records.lines import Lines
from nccl_bench.records.run import RUN, SUMMARY, Run
from nccl_bench.records.summary_csv import NUMBERS, read_summary


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRun:
    """A run that was read for a comparison."""

    path: Path  # the directory or file with the run
    comparable: ComparableRun  # the times of the run
    meta: Mapping[str, Any]  # the content of run.json; for a summary, the few facts that the summary has
    run: Run | None  # all records of the run; None for a summary
    exit_code: ExitCode  # the exit code for the worst failure
    left_out: Mapping[str, int]  # rows without a time in a summary, counted by status; empty for other runs
    warnings: tuple[str, ...]  # unusual facts about the files

    @property
    def name(self) -> str:
        """The name of the run in messages: its path."""
        return self.comparable.name

    def anonymous(self, aliases: Aliases, name: str) -> LoadedRun:
        """Return the run with the name ``name``, and with aliases for hosts, paths and GPUs."""
        run = None if self.run is None else aliases.run(self.run)
        return replace(
            self,
            comparable=replace(self.comparable, name=name),
            meta=self.meta if run is None else run.meta,
            run=run,
            warnings=tuple(map(aliases.text, self.warnings)),
        )

    def same_as(self, other: LoadedRun) -> bool:
        """Return True if ``other`` is this run or a copy of this run. Different runs never have the same times."""
        if _origin(self.path) == _origin(other.path):
            return True
        if self.run is None or other.run is None:
            return _written_medians(self.comparable) == _written_medians(other.comparable)
        return _launch(self.meta) == _launch(other.meta) and self.run.lines == other.run.lines


def load_run(path: Path) -> LoadedRun:
    """Return the run at ``path``; raises ``RecordError`` if there is no run."""
    if os.path.isdir(path):
        return _loaded(Run.load(path), path)
    if path.suffix == ".csv":
        return _load_summary(path)
    imported = importers.read(path)
    return _loaded(Run(meta=imported.meta(), lines=Lines.of(imported.lines)), path)


def _loaded(run: Run, path: Path) -> LoadedRun:
    status = status_text(run)
    unfinished = () if status == "complete" else (f"the run is {status}, so a part of the run is missing",)
    return LoadedRun(
        path=path,
        comparable=ComparableRun.of(run, str(path)),
        meta=run.meta,
        run=run,
        exit_code=exit_code_of(run),
        left_out={},
        warnings=(*run.warnings, *unfinished),
    )


def _load_summary(path: Path) -> LoadedRun:
    medians = read_summary(path)
    measured = (arm for _, _, arm in medians.times_us if not arm.endswith(TWIN_SUFFIX))
    return LoadedRun(
        path=path,
        comparable=ComparableRun(
            name=str(path),
            arms=tuple(dict.fromkeys((medians.baseline, *measured))),
            cells=Cells.of({key: {0: us} for key, us in medians.times_us.items()}),
            placements=medians.placements,
            medians_only=True,
        ),
        meta={"launch": {"world_size": medians.world_size}, "config": {"baseline": medians.baseline}},
        run=None,
        exit_code=exit_code_of_statuses(medians.left_out),
        left_out=medians.left_out,
        warnings=("a summary has no intervals, and does not name its machine",),
    )


def _origin(path: Path) -> Path:
    """Return the run's directory if ``path`` is the summary of a recorded run, otherwise ``path``."""
    resolved = path.resolve()
    return resolved.parent if resolved.name == SUMMARY and (resolved.parent / RUN).exists() else resolved


def _written_medians(run: ComparableRun) -> dict[Cell, str]:
    """Return the medians of all cells, formatted as in ``summary.csv``."""
    return {cell: NUMBERS % time_us for cell, time_us in run.medians_us.items()}


def _launch(meta: Mapping[str, Any]) -> tuple[object, ...]:
    return meta["started"], meta["environment"].get("hostname"), meta["environment"].get("hostnames")
