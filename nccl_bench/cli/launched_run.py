"""A run whose ranks this process launches."""

import importlib
import os
from functools import partial

from nccl_bench.cli.messages import exit_with, print_message
from nccl_bench.cli.progress import Display, case_label
from nccl_bench.cli.recorded_run import (
    OutputConfig,
    close_record,
    closing_on_error,
    create_record,
    ignoring_signals,
    record_end,
)
from nccl_bench.config.run import RunConfig
from nccl_bench.errors import ExitCode
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.hardware import free_memory_bytes
from nccl_bench.launch.job import running_agent
from nccl_bench.launch.sweep import run_sweep
from nccl_bench.plan.cases import make_plan
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.store import RunStatus


def show_plan(config: RunConfig, world_size: int, ranks_per_node: int) -> None:
    """Print the plan of a run."""
    from nccl_bench.report.dry_run import plan_text

    memory = free_memory_bytes(config.device_spec, ranks_per_node)
    print(plan_text(config, make_plan(config, world_size), world_size, memory), end="")


def run_launched(config: RunConfig, launch: LaunchConfig, output: OutputConfig) -> None:
    """Start the ranks, watch them and print the report; exit with the code of the run."""
    world_size = launch.nproc * launch.nnodes
    plan = make_plan(config, world_size)
    # The ranks inherit these variables, and the record lists them.
    os.environ.update(config.variables)
    facts = {"mode": "torchrun", "world_size": world_size, "nproc": launch.nproc, "nnodes": launch.nnodes}
    with running_agent() as agent:
        agent.prepare(launch)
        store = create_record(config, plan, facts, output) if launch.node_rank == 0 else None
        spec = WorkerSpec(config=config, run_dir=str(store.path) if store else None)

        # The agent needs seconds for its imports. Meanwhile import what the report needs.
        importlib.import_module("nccl_bench.analysis.analysis")

        def label(index: int) -> str:
            return case_label(plan.cases[index].case)

        # `run_sweep` handles signals itself. Ignore them outside of `run_sweep`, so that the record is always closed.
        with ignoring_signals():
            with closing_on_error(store, output), Display(len(plan.cases), label) as display:
                # Only the first node writes a record.
                append = partial(record_end, store) if store else lambda _end: None
                outcome = run_sweep(spec, launch, agent, cases=plan.cases, append=append, on_progress=display.show)
                agent.last_word = f"it stopped early: {outcome.stopped}" if outcome.stopped else ""
            if outcome.stopped:
                print_message(f"stopped early: {outcome.stopped}")
            if store:
                code = close_record(store, RunStatus.FAILED if outcome.stopped else RunStatus.COMPLETE, output)
            else:
                code = ExitCode.HANG if outcome.hangs else ExitCode.SETUP if outcome.crashes else ExitCode.OK
    exit_with(code)
