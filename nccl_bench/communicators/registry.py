"""A name -> how to build a communicator over a group and a device. ``capabilities.ARMS`` refers to these names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch.distributed as dist

from nccl_bench.communicators.bare_transport import RecordedCommunicator
from nccl_bench.communicators.base import Communicator
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.nccl4py import Nccl4pyCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator, TorchStreamCommunicator
from nccl_bench.communicators.torch_distributed import ProcessGroupCommunicator
from nccl_bench.transports.device import Device

BUILDERS: Mapping[str, Callable[[dist.ProcessGroup, Device], Communicator]] = {
    "stream-free": StreamFreeCommunicator,
    "stream-free-torch-stream": TorchStreamCommunicator,
    "dedicated-stream": DedicatedStreamCommunicator,
    "process-group": ProcessGroupCommunicator,
    "process-group-async": partial(ProcessGroupCommunicator, async_op=True),
    "bare-transport": RecordedCommunicator,
    "nccl4py": Nccl4pyCommunicator,
}


def build(name: str, group: dist.ProcessGroup, device: Device) -> Communicator:
    """A new communicator of its own, over the ranks of ``group``. Collective."""
    return BUILDERS[name](group, device)
