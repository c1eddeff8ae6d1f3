"""A run of the arms of ``slowed_arms`` on real ranks, and its comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.config.run import resolve
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.job import running_agent
from nccl_bench.launch.sweep import run_sweep
from nccl_bench.plan.cases import make_plan
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.environment import collect
from nccl_bench.records.run import Run
from nccl_bench.records.store import RunStatus, RunStore
from tests.experiments import slowed_arms


def measure(
    out: Path, device: str, nproc: int, options: Mapping[str, object], worker: str = slowed_arms.WORKER
) -> tuple[Comparison, ...]:
    """Run ``options`` on ``nproc`` ranks into the directory ``out``, and return the comparisons."""
    slowed_arms.add_arms()
    config = resolve(device, options)
    plan = make_plan(config, nproc)
    store = RunStore.create(
        out,
        name=out.name,
        command=["python", "-m", "tests.experiments"],
        config=config.to_mapping(),
        launch={"mode": "torchrun", "world_size": nproc, "nproc": nproc, "nnodes": 1},
        left_out=plan.left_out,
        environment=collect(),
    )
    with running_agent() as agent:
        outcome = run_sweep(
            WorkerSpec.of_run(config, len(plan.cases), run_dir=str(store.path)),
            LaunchConfig(nproc=nproc, worker=worker),
            agent,
            cases=plan.cases,
            append=store.append,
            on_progress=lambda launch, positions: None,
        )
    store.finish(RunStatus.FAILED if outcome.hangs or outcome.crashes else RunStatus.COMPLETE)
    return Analysis.of(Run.load(store.path)).comparisons
