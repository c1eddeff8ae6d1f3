"""A device is a stream module and a transport. Code in higher layers never asks for the kind of device."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.nccl_version import version_text
from nccl_bench.errors import SetupError
from nccl_bench.ranks.control import Control
from nccl_bench.streams.base import Streams
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.streams.cuda import CudaStreams
from nccl_bench.transports.base import Transport
from nccl_bench.transports.gloo import GlooTransport
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl4py import Nccl4pyTransport
from nccl_bench.transports.nccl_library import find_library

_BINDINGS: Mapping[str, type[NcclTransport]] = {kind.name: kind for kind in (NcclTransport, Nccl4pyTransport)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The device of one rank."""

    streams: Streams  # the streams of the device
    transport: Transport  # the library that issues collectives on these streams
    shared: bool = False  # True if several ranks of this node use the same GPU

    def over(self, binding: str) -> Device:
        """Return the same device with a transport that calls NCCL by ``binding``, one of ``DeviceSpec.bindings``."""
        transport = self.transport
        if binding == transport.name:
            return self
        assert isinstance(transport, NcclTransport)
        return replace(self, transport=_BINDINGS[binding](transport.library))

    def with_binding(self, binding: str | None, control: Control) -> tuple[Device, str | None]:
        """Return the same device with ``binding``. For ``None``, use nccl4py if every rank can use it. Collective.

        If ``None`` was given and some rank cannot use nccl4py, also return the reason.
        """
        if binding is not None:
            return self.over(binding), None
        cheapest, reason = self, None
        if isinstance(self.transport, NcclTransport):
            try:
                cheapest = self.over(Nccl4pyTransport.name)
            except SetupError as error:
                reason = str(error)
        refused = control.first_message(reason)
        return (cheapest, None) if refused is None else (self, refused[1])


def open_device(
    kind: str,
    local_rank: int,
    nccl_library: str | None = None,
    *,
    arm_library: str | None = None,
    sharing: bool = False,
) -> Device:
    """Open the device ``kind`` (``cuda`` or ``cpu``) of this rank, with ctypes as the binding of NCCL.

    ``nccl_library`` is the path of the run's libnccl. ``arm_library`` is the path of a libnccl that the arms of this
    process have. Each is ``None`` if the user gave no path.

    With ``sharing``, ranks share GPUs on a node with fewer GPUs than ranks. NCCL refuses two ranks of one host on one
    GPU, so ``NCCL_HOSTID`` gives each rank a host name of its own. The ranks then communicate over the network. Results
    are right, which is enough for a verification. Times mean nothing.

    Raises ``SetupError`` if the machine has no such device. On the CPU, initialise torch.distributed first: the ranks
    of a Gloo communicator find each other in the store of torch.distributed.
    """
    if kind == "cpu":
        cpu_streams = CpuStreams()
        return Device(streams=cpu_streams, transport=GlooTransport(cpu_streams))

    if not torch.cuda.is_available():
        raise SetupError("torch sees no CUDA device: install a CUDA build of torch, or measure with --device cpu")
    count = torch.cuda.device_count()
    # Some launchers show each rank only its own GPU, which then has index 0.
    index = local_rank % count if sharing else 0 if count == 1 else local_rank
    shared = sharing and int(os.environ["LOCAL_WORLD_SIZE"]) > count
    if shared:
        os.environ["NCCL_HOSTID"] = f"{socket.gethostname()}-{local_rank}"
    if index >= count:
        raise SetupError(
            f"local rank {local_rank} needs a GPU, and torch sees only {count}: start fewer ranks per node"
        )
    transport = NcclTransport(find_library(nccl_library, of_arm=arm_library))
    return Device(streams=CudaStreams(index), transport=transport, shared=shared)


def refusal(device: Device, case: Case) -> str | None:
    """Return why ``device`` cannot run ``case`` on this machine, with this torch; ``None`` if it can."""
    if reason := device.transport.refusal(case):
        return reason
    if not (case.row.reduces and case.dtype.startswith("float8") and device.transport.has_float8):
        return None
    # NCCL has float8 since 2.24. A message of NCCL says "FP8 reduction support begins with sm90". We have tried float8
    # only above both limits.
    if device.transport.version < 22400:
        return f"NCCL {version_text(device.transport.version)} does not reduce float8: use NCCL 2.24 or later"
    capability = str(device.streams.describe()["compute_capability"])
    if float(capability) < 9.0:
        return f"NCCL reduces float8 from compute capability 9.0 on, and this GPU has {capability}"
    # pytorch #152706. Our own arms can reduce float8 with an older torch, but torch.distributed would have no
    # time to compare.
    if torch.__version__ < "2.8":
        return f"torch.distributed reduces float8 since torch 2.8, and this is torch {torch.__version__}"
    return None
