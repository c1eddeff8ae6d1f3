"""Whatever can be compared, read from a path: a run's directory, its ``summary.csv``, or what nccl-tests wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nccl_bench.analysis.between import Source
from nccl_bench.capabilities import TWIN_SUFFIX
from nccl_bench.collectives import Case, Timing
from nccl_bench.records import nccl_tests
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples, Status
from nccl_bench.records.summary_csv import read_summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One run; ``meta`` is its ``run.json``, ``run`` is ``None`` where only medians are left of it.

    ``wrong`` says that it has wrong results, which are not compared.
    """

    source: Source
    meta: Mapping[str, Any]
    run: Run | None
    wrong: bool
    warnings: tuple[str, ...]


def load(path: Path) -> Loaded:
    """The run at ``path``; raises ``RecordError`` for what is none."""
    if path.is_dir():
        return _of_run(Run.load(path), str(path))
    if path.suffix == ".csv":
        return _of_csv(path)
    imported = nccl_tests.read(path)
    return _of_run(Run(meta=imported.meta(), lines=imported.lines, warnings=imported.left_out), str(path))


def _of_run(run: Run, name: str) -> Loaded:
    cells: dict[tuple[Case, Timing, str], dict[int, float]] = {}
    wrong = False
    for line in run.lines:
        if isinstance(line, Samples) and line.status is Status.WRONG:
            wrong = True
        elif isinstance(line, Samples) and line.samples_us:
            cells[line.case, line.timing, line.arm] = dict(zip(line.rounds, line.samples_us, strict=True))
    # A single round tells nothing about how much rounds vary.
    summary = max(map(len, cells.values()), default=0) < 2
    return Loaded(
        source=Source(name=name, arms=run.arms, cells=cells, summary=summary),
        meta=run.meta,
        run=run,
        wrong=wrong,
        warnings=tuple(f"{name}: {text}" for text in (*run.warnings, *_unfinished(run))),
    )


def _unfinished(run: Run) -> list[str]:
    status = run.meta["status"]
    return [] if status == "complete" else [f"the run is {status}, and what it did not get to is missing here"]


def _of_csv(path: Path) -> Loaded:
    medians = read_summary(path)
    measured = (arm for _, _, arm in medians.times_us if not arm.endswith(TWIN_SUFFIX))
    arms = tuple(dict.fromkeys((medians.baseline, *measured)))
    return Loaded(
        source=Source(
            name=str(path), arms=arms, cells={key: {0: us} for key, us in medians.times_us.items()}, summary=True
        ),
        meta={"launch": {"world_size": medians.world_size}, "config": {"baseline": medians.baseline}},
        run=None,
        wrong=medians.wrong,
        warnings=(f"{path}: a summary has no intervals, and does not say which machine it is from",),
    )
