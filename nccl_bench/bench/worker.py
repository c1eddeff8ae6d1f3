"""The main program of one rank of a run: it joins the other ranks, makes its arms, measures, and records.

The agent starts this program in a fork of itself, or as ``python -m nccl_bench.bench.worker SPEC_FILE``. If another
launcher has started the processes (srun, for example), each of them calls ``measure``.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.budget import Budget
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.libraries import describe_libraries
from nccl_bench.bench.memory import finds_expandable_segments
from nccl_bench.bench.memory_use import memory_of_ranks, with_growth
from nccl_bench.bench.record import Record, describe_process, refuse_other_libraries
from nccl_bench.bench.runner import Runner
from nccl_bench.bench.turns import ArmsInTurn
from nccl_bench.catalog.arms import TWIN_SUFFIX
from nccl_bench.catalog.memory import Memory
from nccl_bench.catalog.scenarios import SCENARIOS
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.config.allocator import expandable_variables
from nccl_bench.config.run import RunConfig, resolve
from nccl_bench.config.user_arms import user_arm_of
from nccl_bench.errors import RecordError, SetupError
from nccl_bench.plan.cases import make_plan
from nccl_bench.plan.process_sets import ProcessSet
from nccl_bench.plan.shuffling import shuffled
from nccl_bench.plan.time import new_ranks_s
from nccl_bench.ranks.joining import join
from nccl_bench.ranks.process import SETUP_INDEX, SETUP_TIMEOUT_S, default_group, destroy_group, run_rank
from nccl_bench.ranks.progress import Progress
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.store import RunStore
from nccl_bench.streams.memory_use import MemoryUse
from nccl_bench.transports.device import Device, open_device
from nccl_bench.transports.nccl_library import loaded_copies
from nccl_bench.transports.nccl_log import NcclLog
from nccl_bench.transports.versions import describe_versions
from nccl_bench.user_arms.building import as_user_arm_error


def measure(spec: WorkerSpec, progress: Progress) -> None:
    """Do this rank's part of the run. The environment must hold the variables that torchrun sets.

    Raises ``NcclBenchError`` or any error of a library. After an error, the other ranks wait until this process ends.
    """
    setup = partial(progress.update, case_index=SETUP_INDEX, deadline_s=SETUP_TIMEOUT_S)
    process_sets = spec.process_sets
    setup(arm="", phase="connect")
    ranks = join(len(process_sets))
    control = ranks.all_ranks
    # All ranks use rank 0's configuration, because the commands on several nodes can differ.
    settings = control.broadcast(spec.config.to_mapping())
    config = resolve(str(settings["device"]), settings)
    launch, later_cases = control.broadcast((spec.launch, [index for cases in spec.later for index in cases]))
    # The arms of a round have another order in every launch.
    config = replace(config, seed=config.seed + launch - 1)
    plan = make_plan(config, ranks.own_set.world_size)
    # After a relaunch, the launchers on several nodes can disagree about the cases that are left. Rank 0 decides,
    # because its node writes the record.
    to_measure = control.broadcast(list(range(len(plan.cases)) if spec.cases is None else spec.cases))
    deadlocks = {(index, arm) for index, arm in control.broadcast(spec.deadlocks)}

    setup(arm="", phase="device")
    # torch reads the settings of its allocator when it first allocates memory.
    if config.memory is Memory.EXPANDABLE:
        os.environ.update(expandable_variables(os.environ))
    arm_library = process_sets[ranks.set_index].library
    local_rank = int(os.environ["LOCAL_RANK"])
    device = open_device(config.device, local_rank, config.nccl_library, arm_library=arm_library)
    device, binding_reason = device.with_binding(config.transport, control)
    setup(arm="", phase="aligning communicator")
    aligner = StreamFreeCommunicator(default_group(), device)
    growths: dict[str, MemoryUse] = {}
    own_arms = _make_arms(config, process_sets, ranks.set_index, device, progress, launch, growths)
    has_second = SCENARIOS[config.scenario].second_communicators
    second_arms = _make_arms(config, process_sets, ranks.set_index, device, progress, launch) if has_second else {}
    arms = ArmsInTurn(own_arms, process_sets, ranks, progress)
    setup(arm="", phase="plan")
    _refuse_shared_streams([*own_arms.values(), *second_arms.values()], device)
    own_able = {
        name: [
            () if (index, name.removesuffix(TWIN_SUFFIX)) in deadlocks else arm.able(each.case, each.able.get(name, ()))
            for index, each in enumerate(plan.cases)
        ]
        for name, arm in own_arms.items()
    }
    plan = plan.only(config.baseline, arms.merge(own_able))

    tiny = torch.zeros(1, device=device.streams.device)
    expandable = control.maximum([finds_expandable_segments(config, device)])[0] > 0
    descriptions = {name: arm.communicator.describe() for name, arm in own_arms.items()}
    versions = arms.merge({str(ranks.set_index): describe_versions(device)})
    log = NcclLog(loaded_copies()) if device.transport.logs_registration else None
    facts = (
        describe_process(device)
        | describe_libraries(arms, config, device.transport.path)
        | {
            "binding_reason": binding_reason,
            "user_arms": [{"arm": name, **facts} for name, facts in arms.merge(descriptions).items() if facts],
            "expandable_segments": expandable,
            "log_absent": None if log is None else log.reason_absent,
            "versions": versions["0"],
            "memory": arms.merge(memory_of_ranks(ranks.own_set, growths, alone=len(process_sets) == 1)),
            "process_sets": [
                {**each.to_mapping(), "versions": versions[str(index)]} for index, each in enumerate(process_sets)
            ]
            if len(process_sets) > 1
            else [],
        }
    )
    store = RunStore(path=Path(spec.run_dir)) if control.rank == 0 and spec.run_dir is not None else None
    # Keep the facts that an earlier, failed launch of this run recorded.
    earlier = {} if store is None else store.meta()["worker"] or {}
    refuse_other_libraries(facts, earlier)
    record = Record(store, facts, earlier, launch)
    record.update()

    setup(arm="", phase="launch memory")
    ranks_of_node = int(os.environ["LOCAL_WORLD_SIZE"]) if config.device_spec.shares_memory else 1
    runner = Runner(
        config=config,
        plan=plan,
        device=device,
        arms=arms,
        second_arms=second_arms,
        align=partial(aligner.all_reduce, tiny),
        progress=progress,
        record=record,
        # Only rank 0 checks the budget. Rank 0 is on the host of the command, so both read the same clock.
        budget=Budget(config.max_seconds - sum(map(bool, spec.later)) * new_ranks_s(config), spec.started),
        started=spec.started - spec.earlier_s,
        later_timings=sum(len(plan.cases[index].timings) for index in later_cases),
        launch_memory=LaunchMemory(device.streams),
        ranks_per_memory=len(process_sets) * ranks_of_node,
        log=log,
        expandable_segments=expandable,
    )
    try:
        runner.run(to_measure)
        if not later_cases:
            runner.measure_memory()
        if config.profile and not later_cases:
            runner.profile(None if spec.run_dir is None else Path(spec.run_dir))
        for name, arm in (*second_arms.items(), *own_arms.items()):
            deadline_s = arm.communicator.close_deadline_s(config.timeout_s)
            progress.update(case_index=len(plan.cases), arm=name, phase="close", deadline_s=deadline_s)
            arm.close()
    except RecordError:
        raise  # no arm is to blame for an error of the record
    except (Exception, SystemExit) as error:
        user_arm = user_arm_of(config.user_arms, progress.position.arm)
        raise error if user_arm is None else as_user_arm_error(user_arm, error) from error
    aligner.close()
    destroy_group(default_group())
    progress.finish()


def _make_arms(
    config: RunConfig,
    process_sets: Sequence[ProcessSet],
    set_index: int,
    device: Device,
    progress: Progress,
    launch: int,
    growths: dict[str, MemoryUse] | None = None,
) -> dict[str, Arm]:
    """Make and return the arms of the process set at ``set_index``. Their order is random, except in the first launch.

    An arm can be faster only because it was made before another arm. With random orders, this difference becomes a part
    of the variance. ``growths`` gets the memory that each arm took.
    """
    arms = {}
    names = [name for process_set in process_sets for name in process_set.arms]
    for name in names if launch == 1 else shuffled(names, config.seed, "arms"):
        # A user arm can hang during its construction, so its time limit is `timeout_s`.
        deadline_s = SETUP_TIMEOUT_S if user_arm_of(config.user_arms, name) is None else config.timeout_s
        progress.update(case_index=SETUP_INDEX, arm=name, phase="communicator", deadline_s=deadline_s)
        if name in process_sets[set_index].arms:
            make_arm = partial(Arm, name, default_group(), device, config.routing, config.user_arms)
            arms[name], growth = with_growth(device.streams, make_arm)
            if growths is not None:
                growths[name] = growth
        else:
            # Only ranks that do not make the arm report this step. A hang is blamed on the rank with the fewest steps.
            progress.update(case_index=SETUP_INDEX, arm="", phase="other processes", deadline_s=SETUP_TIMEOUT_S)
    return {name: arms[name] for name in names if name in arms}


def _refuse_shared_streams(arms: Sequence[Arm], device: Device) -> None:
    """Raise if two built-in arms share a private stream: one arm would then order the calls of the other by accident.

    torch has only 32 streams, and gives them out repeatedly. User arms are not checked: they choose their own streams.
    """
    private = [arm for arm in arms if arm.communicator.stream is not None and not arm.communicator.may_share_stream]
    if len({device.streams.handle(arm.communicator.stream) for arm in private}) < len(private):
        names = ", ".join(dict.fromkeys(arm.name for arm in private))
        raise SetupError(f"two of these arms share one private stream: {names}. Run fewer arms together")


def main(spec_file: str) -> None:
    """Run one rank as the specification in ``spec_file`` says."""
    spec = WorkerSpec.read(Path(spec_file))
    assert spec.scratch is not None
    run_rank(Path(spec.scratch), partial(measure, spec))


if __name__ == "__main__":
    main(sys.argv[1])
