"""Builds communicators by the names that ``catalog.arms.ARMS`` uses."""

from collections.abc import Callable, Mapping
from functools import partial

import torch.distributed as dist

from nccl_bench.catalog.arms import COORDINATORS
from nccl_bench.catalog.routes import ROUTES, Routes
from nccl_bench.communicators.bare_transport import RecordedCommunicator
from nccl_bench.communicators.base import ArmCommunicator
from nccl_bench.communicators.coordinator import GroupCoordinator, LegacyGroupCoordinator
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.nccl4py import Nccl4pyCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator, TorchStreamCommunicator
from nccl_bench.communicators.torch_distributed import ProcessGroupCommunicator
from nccl_bench.transports.device import Device

BUILDERS: Mapping[str, Callable[..., ArmCommunicator]] = {
    "stream-free": StreamFreeCommunicator,
    "stream-free-torch-stream": TorchStreamCommunicator,
    "dedicated-stream": DedicatedStreamCommunicator,
    "process-group": ProcessGroupCommunicator,
    "process-group-async": partial(ProcessGroupCommunicator, async_op=True),
    "bare-transport": RecordedCommunicator,
    "nccl4py": Nccl4pyCommunicator,
    "coordinator": GroupCoordinator,
    "coordinator-legacy": LegacyGroupCoordinator,
}


def build(name: str, group: dist.ProcessGroup, device: Device, routes: Routes = ROUTES) -> ArmCommunicator:
    """Return a new communicator over the ranks of ``group``; only coordinators use ``routes``. Collective."""
    return BUILDERS[name](group, device, *([routes] if name in COORDINATORS else []))
