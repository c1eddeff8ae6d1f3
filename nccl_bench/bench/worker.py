"""One rank: joins the others, builds the arms, measures, and leaves records and positions behind.

Started by torchrun as ``python -m nccl_bench.bench.worker SPEC_FILE``, or called by the command when it attaches to
processes that somebody else launched.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.budget import Budget
from nccl_bench.bench.case_run import Paths
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.runner import Runner
from nccl_bench.bench.timing import loop_cost_us
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.config.run import RunConfig
from nccl_bench.config.user_arms import of_arm
from nccl_bench.errors import SetupError
from nccl_bench.plan.cases import make_plan
from nccl_bench.plan.process_sets import ProcessSet
from nccl_bench.ranks.joining import join, process_set_index
from nccl_bench.ranks.process import SETUP_INDEX, SETUP_TIMEOUT_S, default_group, run_rank
from nccl_bench.ranks.progress import Progress
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.run import read_meta
from nccl_bench.records.schema import Line
from nccl_bench.records.store import RunStore
from nccl_bench.transports.device import Device, open_device
from nccl_bench.transports.nccl_library import other_copies, unread_variables
from nccl_bench.user_arms.building import as_user_arm_error


def measure(spec: WorkerSpec, progress: Progress) -> None:
    """Do this rank's part of the run. The environment holds what torchrun sets: RANK, WORLD_SIZE, LOCAL_RANK and so on.

    Raises ``NcclBenchError`` or whatever a library raises; the other ranks then wait, so the process has to end.
    """
    setup = partial(progress.update, case_index=SETUP_INDEX, deadline_s=SETUP_TIMEOUT_S)
    process_sets = spec.process_sets
    # Before anything reads them: CUDA when it is initialised, NCCL with its first communicator.
    os.environ.update(process_sets[process_set_index(len(process_sets))].variables)
    setup(arm="", phase="connect")
    ranks = join(len(process_sets))
    control = ranks.all_ranks
    # What rank 0 was asked for counts: the commands on several nodes could differ.
    config: RunConfig = control.broadcast(spec.config)
    plan = make_plan(config, ranks.own_set.world_size)
    # After a relaunch, launchers on several nodes may not agree on the case that ended the last one.
    first_case = int(control.maximum([spec.first_case])[0])

    setup(arm="", phase="device")
    device = open_device(config.device, int(os.environ["LOCAL_RANK"]), config.nccl_library, config.transport)
    setup(arm="", phase="aligning communicator")
    aligner = StreamFreeCommunicator(default_group(), device)
    arms = _make_arms(config, process_sets, ranks.set_index, device, progress)
    setup(arm="", phase="plan")
    _refuse_shared_streams(arms, device)
    able = {(name, each.case) for name, arm in arms.items() for each in plan.cases if arm.supports(each.case)}
    able = able.union(*ranks.gather_from_sets(able))
    plan = plan.only(config.baseline, lambda name, case: (name, case) in able)

    store = RunStore(path=Path(spec.run_dir)) if control.rank == 0 and spec.run_dir is not None else None
    described = describe(device, config) | {
        "user_arms": [row for rows in ranks.gather_from_sets(describe_user_arms(arms)) for row in rows],
        "process_sets": [each.told() for each in process_sets] if len(process_sets) > 1 else [],
    }
    # What a launch that failed has seen.
    seen = {} if store is None else read_meta(store.path)["worker"] or {}
    earlier = {"paths": seen.get("paths", []), "registered": seen.get("registered", {})}

    def note() -> None:
        if store is not None:
            paths = [*earlier["paths"], *told_paths(runner.paths)]
            found = {"paths": paths, "registered": earlier["registered"] | runner.registrations}
            store.update(worker=described | {"launch_us": launch_memory.describe()} | found)

    if store is not None:
        store.update(worker=described | earlier)

    setup(arm="", phase="launch memory")
    launch_memory = LaunchMemory(device.streams)
    tiny = torch.zeros(1, device=device.streams.device)
    runner = Runner(
        config=config,
        plan=plan,
        device=device,
        ranks=ranks,
        arms=arms,
        process_set_of={name: index for index, each in enumerate(process_sets) for name in each.arms},
        align=partial(aligner.all_reduce, tiny),
        progress=progress,
        append=_nowhere if store is None else store.append,
        # The command's clock: rank 0, whose decision counts, is on its host.
        budget=Budget(config.max_seconds, spec.started),
        launch_memory=launch_memory,
        note=note,
        ranks_per_memory=len(process_sets)
        * (int(os.environ["LOCAL_WORLD_SIZE"]) if config.device_spec.shares_memory else 1),
    )
    try:
        runner.run(first_case)
        for name, arm in arms.items():
            deadline_s = arm.communicator.close_deadline_s(config.timeout_s)
            progress.update(case_index=len(plan.cases), arm=name, phase="close", deadline_s=deadline_s)
            arm.close()
    except (Exception, SystemExit) as error:
        user_arm = of_arm(config.user_arms, progress.position.arm)
        raise error if user_arm is None else as_user_arm_error(user_arm, error) from error
    aligner.close()
    dist.destroy_process_group()
    progress.finish()


def describe(device: Device, config: RunConfig) -> dict[str, object]:
    """What only a worker can say for the record."""
    library = device.transport.describe()
    facts: dict[str, object] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "device": device.streams.describe(),
        "transport": library,
        "cpu_affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "loop_cost_us": loop_cost_us(),
    }
    if "path" in library:
        # With two copies of NCCL in a process, the arms do not run the same code.
        facts["other_nccl_libraries"] = other_copies(str(library["path"]))
        given = {
            name for variables in (config.variables, *(p.variables for p in config.user_arms)) for name in variables
        }
        facts["unread_variables"] = unread_variables(str(library["path"]), sorted(given))
    return facts


def _make_arms(
    config: RunConfig, process_sets: Sequence[ProcessSet], index: int, device: Device, progress: Progress
) -> dict[str, Arm]:
    """Those of the world at ``index``."""
    arms = {}
    for name in (name for each in process_sets for name in each.arms):
        # A user arm that hangs here is found out as in a case.
        deadline_s = SETUP_TIMEOUT_S if of_arm(config.user_arms, name) is None else config.timeout_s
        progress.update(case_index=SETUP_INDEX, arm=name, phase="communicator", deadline_s=deadline_s)
        if name in process_sets[index].arms:
            arms[name] = Arm(name, default_group(), device, config.routing, config.user_arms)
        else:
            # A step more than the ranks that make it, one of which then is the one that a hang is put down to.
            progress.update(case_index=SETUP_INDEX, arm="", phase="other processes", deadline_s=SETUP_TIMEOUT_S)
    return arms


def told_paths(paths: Paths) -> list[dict[str, str]]:
    """What the arms were seen to run, for the record."""
    return [
        {"collective": collective, "arm": arm, **{mode.value: path for mode, path in by_mode.items()}}
        for (collective, arm), by_mode in paths.items()
    ]


def describe_user_arms(arms: Mapping[str, Arm]) -> list[dict[str, object]]:
    """What the user arms turned out to be, for the record."""
    return [{"arm": name, **description} for name, arm in arms.items() if (description := arm.communicator.describe())]


def _refuse_shared_streams(arms: Mapping[str, Arm], device: Device) -> None:
    """torch's streams come from a pool of 32: two arms of ours on one stream would differ by accident.

    What streams others' communicators share is their users' choice.
    """
    handles = {
        name: device.streams.handle(stream)
        for name, arm in arms.items()
        if (stream := arm.communicator.exclusive_stream) is not None
    }
    if len(set(handles.values())) < len(handles):
        raise SetupError(f"two arms got the same private stream ({', '.join(handles)}): run fewer arms together")


def _nowhere(_line: Line) -> None:
    """Ranks other than the first measure the same and write nothing."""


def main(spec_file: str) -> None:
    """The process that torchrun starts."""
    spec = WorkerSpec.read(Path(spec_file))
    assert spec.scratch is not None
    run_rank(Path(spec.scratch), partial(measure, spec))


if __name__ == "__main__":
    main(sys.argv[1])
