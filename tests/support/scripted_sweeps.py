"""Sweeps over scripted launches: eight cases with the arms a and b, and their outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nccl_bench.config.run import resolve
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.sweep import Outcome, run_sweep
from nccl_bench.plan.cases import PlannedCase, make_plan
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.schema import Crash, Hang
from tests.support.scripted_launches import Launches

CONFIG = resolve("cpu", {"sizes": "8,16,32,64,128,256,512,1024", "timeout_s": 9})
CASES: list[PlannedCase] = [
    replace(planned, arms=("a", "b") if index != 3 else ("b",))
    for index, planned in enumerate(make_plan(CONFIG, 2).cases)
]
SPEC = WorkerSpec(config=CONFIG, run_dir=None)


def sweep(
    launches: Launches,
    *,
    spec: WorkerSpec = SPEC,
    launch: LaunchConfig | None = None,
    cases: Sequence[PlannedCase] = CASES,
) -> tuple[Outcome, list[Hang | Crash]]:
    """Return the end of a sweep over ``launches``, and what it recorded."""
    lines: list[Hang | Crash] = []
    outcome = run_sweep(
        spec,
        launch or LaunchConfig(nproc=2),
        launches,
        cases=cases,
        append=lines.append,
        on_progress=lambda launch, positions: None,
    )
    return outcome, lines


def cases_of(launches: Launches) -> list[str]:
    """Return the cases of each launch: their indices, one digit each."""
    return ["".join(map(str, cases)) for cases in launches.cases]


WITH_USER_ARMS = replace(
    SPEC, config=resolve("cpu", {"arms": "torch", "user_arms": [{"name": n, "target": "a.py:A"} for n in ("a", "b")]})
)
