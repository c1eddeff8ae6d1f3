"""One rank: joins the others, builds the arms, measures, and leaves records and positions behind.

Started by torchrun as ``python -m nccl_bench.worker SPEC_FILE``, or called by the command itself when it attaches to
processes that somebody else launched.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from nccl_bench.arms import Arm
from nccl_bench.bench.budget import Budget
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.runner import Runner
from nccl_bench.bench.timing import loop_cost_us
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.config import RunConfig
from nccl_bench.errors import SetupError
from nccl_bench.plan import make_plan
from nccl_bench.ranks.control import Control
from nccl_bench.ranks.process import SETUP, SETUP_TIMEOUT_S, run_rank, world
from nccl_bench.records.handoff import Progress, WorkerSpec
from nccl_bench.records.schema import Line
from nccl_bench.records.store import RunStore
from nccl_bench.transports.base import NEVER
from nccl_bench.transports.device import Device, open_device
from nccl_bench.transports.nccl_library import other_copies


def measure(spec: WorkerSpec, progress: Progress, environ: Mapping[str, str] = os.environ) -> None:
    """Do this rank's part of the run. ``environ`` holds what torchrun sets: RANK, WORLD_SIZE, LOCAL_RANK and so on.

    Raises ``NcclBenchError`` or whatever a library raises; the other ranks then wait, so the process has to end.
    """
    setup = partial(progress.update, case_index=SETUP, deadline_s=SETUP_TIMEOUT_S)
    setup(arm="", phase="connect")
    dist.init_process_group("gloo", timeout=NEVER)
    control = Control(world())
    # What rank 0 was asked for counts: the commands on several nodes could differ.
    config: RunConfig = control.announce(spec.config)
    plan = make_plan(config, control.world_size)
    # After a relaunch, launchers on several nodes may not agree on the case that ended the last one.
    first_case = int(control.maximum([spec.first_case])[0])

    setup(arm="", phase="device")
    device = open_device(config.device, int(environ["LOCAL_RANK"]), config.nccl_library)
    setup(arm="", phase="aligning communicator")
    aligner = StreamFreeCommunicator(world(), device)
    arms = {}
    for name in config.measured_arms:
        setup(arm=name, phase="communicator")
        arms[name] = Arm(name, world(), device, config.routing)
    _refuse_shared_streams(arms, device)

    store = RunStore(path=Path(spec.run_dir)) if control.rank == 0 and spec.run_dir is not None else None
    append: Callable[[Line], None] = _nowhere
    if store is not None:
        store.update(worker=describe(device))
        append = store.append

    setup(arm="", phase="launch memory")
    launch_memory = LaunchMemory(device.streams)
    tiny = torch.zeros(1, device=device.streams.device)
    runner = Runner(
        config=config,
        plan=plan,
        device=device,
        control=control,
        arms=arms,
        align=partial(aligner.all_reduce, tiny),
        progress=progress,
        append=append,
        # The command's clock: rank 0, whose decision counts, is on its host.
        budget=Budget(config.max_seconds, spec.started),
        launch_memory=launch_memory,
        ranks_per_memory=int(environ["LOCAL_WORLD_SIZE"]) if config.device_spec.shares_memory else 1,
    )
    runner.run(first_case)

    progress.update(case_index=len(plan.cases), arm="", phase="close", deadline_s=SETUP_TIMEOUT_S)
    if store is not None:
        paths = [
            {"collective": collective, "arm": arm, **by_mode} for (collective, arm), by_mode in runner.paths.items()
        ]
        store.update(worker=describe(device) | {"launch_us": launch_memory.describe(), "paths": paths})
    for arm in arms.values():
        arm.close()
    aligner.close()
    dist.destroy_process_group()
    progress.finish()


def describe(device: Device) -> dict[str, object]:
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
    return facts


def _refuse_shared_streams(arms: Mapping[str, Arm], device: Device) -> None:
    """torch's streams come from a pool of 32: two arms on one stream would be ordered by accident."""
    handles = {
        name: device.streams.handle(arm.communicator.stream)
        for name, arm in arms.items()
        if arm.communicator.stream is not None
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
