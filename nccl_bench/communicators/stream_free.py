"""The communicator after the refactor: it owns no stream, and every operation runs on the current one."""

from __future__ import annotations

import torch.distributed as dist

from nccl_bench.communicators.over_transport import TransportCommunicator
from nccl_bench.transports.device import Device


class StreamFreeCommunicator(TransportCommunicator):
    """Runs every operation on the current stream of its own device, whichever device is current.

    No operation takes a stream but ``cp_all_gather_into_tensor``, where it is mandatory and the caller orders it.
    """

    stream = None

    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__(group, device)
        self._handle = self._current_handle
        # A stream for the warm-up alone, released with this call: afterwards there is none to be out of order with.
        self._warm_up(device.streams.new_stream())
