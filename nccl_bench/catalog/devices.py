"""The arms and the devices, and what each can do. No torch.

The other half of the table in ``collectives``: a rule here is one line of data, with the reason a user is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nccl_bench.catalog.timings import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """One kind of device: its transport, the timings it has, and the sweep a user would pick on it.

    ``bindings`` are the ways to that transport, the default first.

    ``max_seconds`` is after how long such a sweep stops asking for more than the fewest rounds.

    ``missing_timings`` gives the reason for each timing it lacks. The figures in seconds and bytes are nominal, for
    the estimate of ``--dry-run`` alone: a process's start, a communicator, an operation's latency and throughput, and
    what surrounds one batch. ``shares_memory`` says that the ranks of a node share what memory there is,
    ``registers_memory`` that its transport has memory to register with communicators.
    ``missing_on_default_stream`` are the timings that it lacks where the arms are called on the default stream.

    A proof tries messages of ``probe_sizes`` bytes, a small and a large one; its slow kernels last, and its late ranks
    come late by, ``probe_delay_s``. ``missing_probes`` gives the reason for each probe that makes no sense there.
    """

    name: str
    transport: str
    bindings: tuple[str, ...]
    missing_timings: Mapping[Timing, str]
    sizes: str
    dtype: str
    max_seconds: float
    setup_s: float
    communicator_s: float
    operation_s: float
    bytes_per_s: float
    batch_overhead_s: float
    shares_memory: bool
    registers_memory: bool
    missing_on_default_stream: Mapping[Timing, str]
    probe_sizes: tuple[int, int]
    probe_delay_s: float
    missing_probes: Mapping[str, str]


_INLINE = "the CPU's default stream runs inline, so nothing can be held back on it"


DEVICES: Mapping[str, DeviceSpec] = {
    "cuda": DeviceSpec(
        name="cuda",
        transport="nccl",
        bindings=("nccl", "nccl4py"),
        missing_timings={},
        sizes="8:1G:x2",
        dtype="bfloat16",
        max_seconds=60.0,
        setup_s=12.0,
        communicator_s=1.0,
        operation_s=20e-6,
        bytes_per_s=150e9,
        batch_overhead_s=3e-3,
        shares_memory=False,
        registers_memory=True,
        missing_on_default_stream={
            # Seen on 2x H200 with driver 580, in every batch of every arm. That the host waits inside the replay is a
            # guess; the other timings' gates hold on that stream.
            Timing.GRAPH: "no gate was seen to hold on the default stream until the replays were queued"
        },
        # Latency-bound and in several chunks per channel.
        probe_sizes=(1024, 16 * 1024**2),
        probe_delay_s=5e-3,
        missing_probes={},
    ),
    "cpu": DeviceSpec(
        name="cpu",
        transport="gloo",
        bindings=("gloo",),
        missing_timings={Timing.GRAPH: "the CPU has no CUDA graphs"},
        sizes="8:1M:x8",
        dtype="bfloat16",
        max_seconds=30.0,
        setup_s=6.0,
        communicator_s=0.2,
        operation_s=200e-6,
        bytes_per_s=0.5e9,
        batch_overhead_s=3e-3,
        shares_memory=True,
        registers_memory=False,
        missing_on_default_stream={Timing.GATED: _INLINE, Timing.ENQUEUE: _INLINE},
        probe_sizes=(1024, 256 * 1024),
        # Longer than a thread usually waits for a busy core.
        probe_delay_s=10e-3,
        missing_probes={
            "allocator": "the CPU's queues keep alive what they use",
            "capture": "the CPU has no CUDA graphs",
        },
    ),
}
