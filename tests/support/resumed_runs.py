"""A run of three sizes whose sweeps are scripted, to be continued."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.cli import launched_run
from nccl_bench.config.run import resolve
from nccl_bench.errors import InterruptedRunError
from nccl_bench.launch.sweep import Outcome
from nccl_bench.plan.cases import make_plan
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.schema import CaseEnd, Entry
from nccl_bench.records.store import RunStore
from tests.support.synthetic_runs import samples

SIZES = "1K,2K,4K"
CASES = [planned.case for planned in make_plan(resolve("cpu", {"sizes": SIZES}), 2).cases]


def measured(index: int, *arms: str, **changes: Any) -> list[Entry]:
    """Return the lines of a case that was measured to its end."""
    return [
        *(samples(arm, case=CASES[index], **changes) for arm in arms or ("stream-free",)),
        CaseEnd(case=CASES[index]),
    ]


class Sweeps:
    """A replacement of ``run_sweep``: each sweep records its lines, and is interrupted unless all cases are done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.specs: list[WorkerSpec] = []
        self.lines: Sequence[Entry] = ()
        self.interrupted = False
        monkeypatch.setattr(launched_run, "run_sweep", self)

    def __call__(self, spec: WorkerSpec, *_arguments: object, **_keywords: object) -> Outcome:
        self.specs.append(spec)
        assert spec.run_dir is not None
        RunStore(path=Path(spec.run_dir)).append(*self.lines)
        if self.interrupted:
            raise InterruptedRunError("interrupted by SIGINT")
        return Outcome(hangs=(), crashes=(), stopped=None)
