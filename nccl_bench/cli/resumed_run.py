"""``run --resume``: continues a recorded run with the cases that are missing or that hung or crashed."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.cli.gate import gate, refuse_gate_of_one_arm
from nccl_bench.cli.launched_run import measure_cases
from nccl_bench.cli.launching import refuse_missing
from nccl_bench.cli.messages import exit_with, print_message
from nccl_bench.cli.output import OutputConfig
from nccl_bench.cli.recorded_run import close_record
from nccl_bench.cli.report import print_report
from nccl_bench.config.hidden_values import give_values_again
from nccl_bench.config.parsers import one_of
from nccl_bench.config.recorded_code import refuse_recorded_code
from nccl_bench.config.run import RunConfig, resolve
from nccl_bench.errors import ExitCode, UsageError
from nccl_bench.launch.attach import detect_launcher
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.plan.cases import Plan, make_plan
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.environment import collect
from nccl_bench.records.facts import command_line, seconds_since
from nccl_bench.records.locks import locked
from nccl_bench.records.resuming import refuse_changes, refuse_links, refuse_many_ranks
from nccl_bench.records.run import FILES, PROFILES, SAMPLES, Run
from nccl_bench.records.store import RunStatus, RunStore


def resume_run(directory: Path, output: OutputConfig, given: Mapping[str, Any], *, allow_recorded_code: bool) -> None:
    """Measure the missing and the failed cases of the run in ``directory``; exit with the code of the whole run.

    ``given`` has the options that give values which the record does not hold. ``allow_recorded_code`` allows the code
    that the record names.

    Raises:
        UsageError: The run cannot be continued, or not on this machine.
        RecordError: There is no run in ``directory``.
    """
    # This refuses a directory without a run, which has no file to lock.
    Run.load(directory)
    refuse_links(directory, (*FILES, PROFILES))
    with locked(directory / SAMPLES):
        run = Run.load(directory)
        config = configuration_of(run, directory, given, allow_recorded_code=allow_recorded_code)
        refuse_gate_of_one_arm(config.arms, output.fail_on)
        plan, spec = work_left(run, config)
        if spec.is_empty and spec.following is None:
            exit_with(_end_without_cases(run, directory, output))
            return
        launch = LaunchConfig(nproc=run.world_size)
        code = measure_cases(spec, launch, plan, output, lambda _held: RunStore.resume(directory, command_line()))
    exit_with(code)


def configuration_of(run: Run, directory: Path, given: Mapping[str, Any], *, allow_recorded_code: bool) -> RunConfig:
    """Return the configuration of ``run``. Raise ``UsageError`` if this process cannot continue the run."""
    if run.cases is not None and not run.can_be_resumed:
        raise UsageError(
            f"--resume is {directory}, a run on several nodes or of ranks that another launcher started: only runs on "
            "one node whose ranks nccl-bench started can be continued. Start again in another directory with --out"
        )
    if run.cases is None:
        raise UsageError(
            f"--resume is {directory}, which an import or an older version of nccl-bench recorded: its plan is not "
            "known. Start again in another directory with --out"
        )
    ranks = run.meta["launch"].get("nproc")
    if ranks != run.world_size:
        raise UsageError(
            f"--resume is {directory}, whose record names {run.world_size} ranks, but {ranks} of them on its only "
            "node. Both numbers have to be equal. Start again in another directory with --out"
        )
    refuse_many_ranks(directory, ranks)
    launcher = detect_launcher(os.environ)
    if launcher is not None:
        raise UsageError(
            f"{launcher} started this process as one rank of several, and --resume starts its own ranks: run it once, "
            "outside of that launch"
        )
    recorded = give_values_again(directory, run.meta["config"], given)
    config = resolve(one_of("device", recorded["device"], DEVICES), recorded)
    # Check this before anything that the record names has an effect in this process.
    if not allow_recorded_code:
        refuse_recorded_code(directory, config, given)
    # Set the variables for the comparison with the record, whose list of environment variables includes them.
    os.environ.update(config.variables)
    refuse_changes(directory, run.meta, collect())
    if set(config.arms) <= set(run.excluded):
        raise UsageError(
            f"--resume is {directory}, in which every arm hung or crashed: no arm is left to measure. Start again in "
            "another directory with --out"
        )
    if "PYTHONPATH" not in config.variables:
        refuse_missing(config.user_arms)
    return config


def work_left(run: Run, config: RunConfig) -> tuple[Plan, WorkerSpec]:
    """Return the plan of ``run``, and the work for its missing cases."""
    plan = make_plan(config, run.world_size)
    indices = {planned.case: index for index, planned in enumerate(plan.cases)}
    done = {(indices[case], launch) for case, launch in run.ended if case in indices}
    spec = WorkerSpec.of_run(
        config,
        len(plan.cases),
        done=done,
        run_dir=None,
        excluded=run.excluded,
        deadlocks=tuple((indices[case], arm) for case, arm in run.deadlocks if case in indices),
        earlier_s=seconds_since(run.meta["started"]),
    )
    return plan, spec


def _end_without_cases(run: Run, directory: Path, output: OutputConfig) -> ExitCode:
    """Print the report of a run in which no case is left, and return its exit code. Record its end if it is missing."""
    print_message(f"nothing is left to measure in {directory}")
    if run.meta["status"] not in (RunStatus.COMPLETE, RunStatus.PARTIAL):
        return close_record(RunStore(path=directory.absolute()), RunStatus.COMPLETE, output)
    analysis = Analysis.of(run)
    print_report(analysis, output.format, output.width, detail=output.detail)
    return analysis.exit_code or gate(output.fail_on, analysis)
