"""A run whose ranks this process launches."""

import importlib
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from nccl_bench.cli.messages import exit_with, print_message
from nccl_bench.cli.output import OutputConfig
from nccl_bench.cli.progress import display_of
from nccl_bench.cli.recorded_run import (
    close_record,
    closing_on_error,
    create_record,
    record_end,
)
from nccl_bench.cli.tracking import track_run
from nccl_bench.config.run import RunConfig
from nccl_bench.errors import ExitCode
from nccl_bench.launch.config import LaunchConfig, describe_loopback
from nccl_bench.launch.job import running_agent
from nccl_bench.launch.signals import collect_signals, interruptible, raise_interrupted
from nccl_bench.launch.sweep import run_sweep
from nccl_bench.plan.cases import Plan, make_plan
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.locks import locked
from nccl_bench.records.run import LAUNCHED, SAMPLES
from nccl_bench.records.store import RunStatus, RunStore
from nccl_bench.report import Detail


def run_launched(config: RunConfig, launch: LaunchConfig, output: OutputConfig) -> None:
    """Start the ranks and measure all cases; exit with the code of the run."""
    world_size = launch.nproc * launch.nnodes
    plan = make_plan(config, world_size)
    # The ranks inherit these variables, and the record lists them.
    os.environ.update(config.variables)
    warning = describe_loopback(launch)
    if warning is not None:
        print_message(f"warning: {warning}")
    facts = {"mode": LAUNCHED, "world_size": world_size, "nproc": launch.nproc, "nnodes": launch.nnodes}

    def open_record(held: ExitStack) -> RunStore | None:
        # Only the first node writes a record.
        if launch.node_rank != 0:
            return None
        store = create_record(config, plan, facts, output)
        with closing_on_error(store, output):
            held.enter_context(locked(store.path / SAMPLES))
        return store

    spec = WorkerSpec.of_run(config, len(plan.cases), run_dir=None)
    exit_with(measure_cases(spec, launch, plan, output, open_record))


def measure_cases(
    spec: WorkerSpec,
    launch: LaunchConfig,
    plan: Plan,
    output: OutputConfig,
    open_record: Callable[[ExitStack], RunStore | None],
) -> ExitCode:
    """Let ranks measure the cases of ``spec``, watch them and print the report; return the code of the run.

    ``open_record`` returns the record; ``None`` on nodes other than the first. It gets an ``ExitStack``, which is
    closed after the record.
    """
    assert spec.cases is not None
    left = (spec.cases, *spec.later)
    # Collected signals interrupt nothing, so that a record is always closed. `run_sweep` collects signals itself.
    with collect_signals() as received, running_agent() as agent, ExitStack() as held:
        agent.prepare(launch)
        with interruptible():
            # The agent needs seconds for its imports. Meanwhile import what the report needs.
            importlib.import_module("nccl_bench.analysis.analysis")
        store = open_record(held)
        track = partial(track_run, spec.config, plan, left, started=spec.started)
        with (
            closing_on_error(store, output),
            display_of(
                track(samples=store.path / SAMPLES if store else None), "case", is_silent=output.detail is Detail.QUIET
            ) as display,
        ):
            raise_interrupted(received)
            outcome = run_sweep(
                replace(spec, run_dir=str(store.path) if store else None),
                launch,
                agent,
                cases=plan.cases,
                append=partial(record_end, store) if store else lambda _end: None,
                on_progress=lambda launch, positions: display.show(positions, launch),
            )
            agent.end_reason = f"it stopped early: {outcome.stopped}" if outcome.stopped else ""
        if outcome.stopped:
            print_message(f"stopped early: {outcome.stopped}")
        if store:
            return close_record(store, RunStatus.FAILED if outcome.stopped else RunStatus.COMPLETE, output)
        return ExitCode.HANG if outcome.hangs else ExitCode.SETUP if outcome.crashes else ExitCode.OK
