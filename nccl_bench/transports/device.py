"""A device is a stream module and a transport; everything above works on that pair and asks no further."""

from __future__ import annotations

from dataclasses import dataclass

from nccl_bench.errors import SetupError
from nccl_bench.streams.base import Streams
from nccl_bench.transports.base import Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One rank's device."""

    streams: Streams
    transport: Transport


def open_device(kind: str, local_rank: int, nccl_library: str | None = None) -> Device:
    """The device ``kind`` (``cuda`` or ``cpu``) of this rank; raises ``SetupError`` where the machine has none.

    On the CPU, torch.distributed has to be initialised first: Gloo's communicators meet in its store.
    """
    if kind == "cpu":
        from nccl_bench.streams.cpu_device import CpuStreams
        from nccl_bench.transports.gloo import GlooTransport

        cpu_streams = CpuStreams()
        return Device(streams=cpu_streams, transport=GlooTransport(cpu_streams))

    import torch

    if not torch.cuda.is_available():
        raise SetupError("torch sees no CUDA device: install a CUDA build of torch, or measure with --device cpu")
    if local_rank >= torch.cuda.device_count():
        raise SetupError(
            f"local rank {local_rank} needs its own GPU, and torch sees {torch.cuda.device_count()}: lower --nproc"
        )
    from nccl_bench.streams.cuda import CudaStreams
    from nccl_bench.transports.nccl import NcclTransport
    from nccl_bench.transports.nccl_library import find_library

    return Device(streams=CudaStreams(local_rank), transport=NcclTransport(find_library(nccl_library)))
