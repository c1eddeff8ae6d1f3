"""What only a worker knows about a run: its libraries and its device."""

from __future__ import annotations

import os
import torch

from nccl_bench.bench.timing import loop_cost_us
from nccl_bench.config.run import RunConfig
from nccl_bench.transports.device import Device
from nccl_bench.transports.nccl_library import other_copies, unread_variables


def describe_process(device: Device, config: RunConfig) -> dict[str, object]:
    """Return the libraries and the device of this process, as ``run.json`` has them."""
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
        path = str(library["path"])
        variables = {*config.variables, *(name for user_arm in config.user_arms for name in user_arm.variables)}
        # With two copies of NCCL in a process, the arms do not run the same code.
        facts["other_nccl_libraries"] = other_copies(path)
        facts["unread_variables"] = unread_variables(path, sorted(variables))
    return facts
