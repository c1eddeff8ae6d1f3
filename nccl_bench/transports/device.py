"""A device is a stream module and a transport; everything above works on that pair and asks no further."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace

import torch

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.nccl_version import version_text
from nccl_bench.errors import SetupError
from nccl_bench.streams.base import Streams
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.streams.cuda import CudaStreams
from nccl_bench.transports.base import Transport
from nccl_bench.transports.gloo import GlooTransport
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl4py import Nccl4pyTransport
from nccl_bench.transports.nccl_library import find_library

_OverNccl = NcclTransport | Nccl4pyTransport


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One rank's device; ``shared`` says that the ranks of this node share its GPUs."""

    streams: Streams
    transport: Transport
    shared: bool = False

    @property
    def backend(self) -> str:
        """torch.distributed's name for the library behind the transport."""
        return GlooTransport.name if isinstance(self.transport, GlooTransport) else NcclTransport.name

    def over(self, binding: str) -> Device:
        """The same device, whose transport is called through ``binding``, a name in ``DeviceSpec.bindings``."""
        transport = self.transport
        if binding == transport.name:
            return self
        assert isinstance(transport, _OverNccl)
        made = (
            NcclTransport(transport.library) if binding == NcclTransport.name else Nccl4pyTransport(transport.library)
        )
        return replace(self, transport=made)


def open_device(
    kind: str,
    local_rank: int,
    nccl_library: str | None = None,
    binding: str | None = None,
    *,
    sharing: bool = False,
) -> Device:
    """The device ``kind`` (``cuda`` or ``cpu``) of this rank, over ``binding`` or the first it has.

    With ``sharing`` the ranks of a node that has fewer GPUs take turns through them. NCCL refuses two ranks on one GPU
    of one host, and so each becomes a host of its own (``NCCL_HOSTID``): they talk over the network, which is right for
    a proof and wrong for a time.

    Raises ``SetupError`` where the machine has none.
    On the CPU, torch.distributed has to be initialised first: Gloo's communicators meet in its store.
    """
    if kind == "cpu":
        cpu_streams = CpuStreams()
        return Device(streams=cpu_streams, transport=GlooTransport(cpu_streams))

    if not torch.cuda.is_available():
        raise SetupError("torch sees no CUDA device: install a CUDA build of torch, or measure with --device cpu")
    count = torch.cuda.device_count()
    # A launcher that gives each rank a GPU of its own shows it that one alone.
    index = local_rank % count if sharing else 0 if count == 1 else local_rank
    shared = sharing and int(os.environ["LOCAL_WORLD_SIZE"]) > count
    if shared:
        os.environ["NCCL_HOSTID"] = f"{socket.gethostname()}-{local_rank}"
    if index >= count:
        raise SetupError(f"local rank {local_rank} needs a GPU, and torch sees {count}: start fewer ranks on this node")
    device = Device(streams=CudaStreams(index), transport=NcclTransport(find_library(nccl_library)), shared=shared)
    return device if binding is None else device.over(binding)


def refusal(device: Device, case: Case) -> str | None:
    """Why ``device`` cannot run ``case`` at all, where that depends on the machine at hand; ``None`` where it can."""
    if not (case.row.reduces and case.dtype.startswith("float8") and isinstance(device.transport, _OverNccl)):
        return None
    # NCCL's own words are "FP8 reduction support begins with sm90"; float8 itself came with 2.24. Not tried on either
    # side of these bounds but the upper one.
    if device.transport.version < 22400:
        return f"NCCL {version_text(device.transport.version)} does not reduce float8; 2.24 does"
    capability = str(device.streams.describe()["compute_capability"])
    if float(capability) < 9.0:
        return f"NCCL reduces float8 from compute capability 9.0 on, and this GPU has {capability}"
    return None
