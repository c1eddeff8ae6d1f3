"""The table of devices: the transport, timings, default sweep and nominal speed of each device."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nccl_bench.catalog.memory import Memory
from nccl_bench.catalog.timings import TIMINGS, Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """A row of the table of devices."""

    name: str  # the name that --device takes
    transport: str  # the library that carries the collectives: "nccl" or "gloo"
    bindings: tuple[str, ...]  # the ways to call the transport from Python; the first one needs no extra package
    missing_timings: Mapping[Timing, str] = field(default_factory=dict)  # timing -> why the device lacks it
    missing_on_default_stream: Mapping[Timing, str]  # timing -> why it cannot be measured on the default stream
    missing_probes: Mapping[str, str] = field(default_factory=dict)  # name of a probe -> why the device lacks it
    sizes: str  # the default sweep, in the form that --sizes takes
    overlap_sizes: str  # the default sweep of an overlap: messages that are worth a second stream
    hidden: str  # the default hidden sizes of a chain, in the form that --hidden takes
    tokens: str  # the default numbers of tokens of a chain, in the form that --tokens takes
    layers: str  # the default numbers of layers of a chain, in the form that --layers takes
    delays: str  # the default delays of one rank, in microseconds
    few_sizes: str  # the default sweep of a scenario that varies more than sizes
    dtype: str  # the default data type
    max_seconds: float  # the default of --max-seconds

    # The nominal times and speed below serve only for the estimate of --dry-run and for deadlines.
    setup_s: float  # the time to start the processes
    new_ranks_s: float  # the time to start the processes again, for every launch after the first
    communicator_s: float  # the time to make one communicator
    operation_s: float  # the latency of one operation
    bytes_per_s: float  # the throughput of one operation
    memory_bytes_per_s: float  # the speed at which a matrix product reads its weights
    multiplications_per_s: float  # the speed of a large matrix product
    probe_s: float  # the time that one probe of one arm takes
    batch_overhead_s: float  # the time that a batch takes besides its operations

    has_gpus: bool  # whether each rank has a GPU, which NVIDIA's driver lists
    figures_notice: str = ""  # a sentence that says what the figures of a run do not show; empty if it needs none
    order_notice: str = ""  # a sentence that says what a verification does not show; empty if it needs none
    shares_memory: bool  # whether the ranks of a node share one memory; False: each rank has its own
    missing_nvtx: str = ""  # why --nvtx has no effect; empty if tools show NVTX ranges beside the device's work
    missing_tuning: str = ""  # why --tuning has nothing to report; empty if the transport logs what it runs
    missing_memory: Mapping[Memory, str] = field(default_factory=dict)  # allocator -> why the device lacks it
    probe_sizes: tuple[int, int]  # message sizes of a probe in bytes: a small size and a large size
    probe_delay_s: float  # the length of a probe's slow kernels, and the delay of its late ranks
    probe_operations: int  # the number of operations that the probe `many` does at each place

    def absent_timings(self, *, on_default_stream: bool) -> Mapping[Timing, str]:
        """Return the timings that the device lacks, each with the reason; more are absent on the default stream."""
        return {**self.missing_timings, **(self.missing_on_default_stream if on_default_stream else {})}

    @property
    def has_graphs(self) -> bool:
        """True if operations can be captured into graphs."""
        return not any(TIMINGS[timing].captured for timing in self.missing_timings)

    @property
    def inline_default_stream(self) -> bool:
        """True if work on the default stream runs inside the call, so that nothing can hold the work back."""
        return Timing.GATED in self.missing_on_default_stream


_NO_GRAPHS = "the CPU has no CUDA graphs"
_INLINE = "the CPU's default stream runs work inside the call, so no gate can hold the work back"


DEVICES: Mapping[str, DeviceSpec] = {
    "cuda": DeviceSpec(
        name="cuda",
        transport="nccl",
        bindings=("nccl", "nccl4py"),
        missing_on_default_stream={
            # Observed on 2x H200 with driver 580, in every batch of every arm. Probably the host waits inside the
            # replay. On the default stream the gates of the other timings work.
            Timing.GRAPH: "on the default stream every gate opened before all replays were queued"
        },
        sizes="8:1G:x2",
        overlap_sizes="1M:256M:x4",
        hidden="8192",
        tokens="1,32,512",
        layers="40",
        delays="0,10,50,200",
        few_sizes="8,64K,1M,16M",
        dtype="bfloat16",
        max_seconds=46.0,
        setup_s=12.0,
        new_ranks_s=2.0,
        communicator_s=1.0,
        operation_s=20e-6,
        bytes_per_s=150e9,
        memory_bytes_per_s=2e12,
        multiplications_per_s=200e12,
        batch_overhead_s=3e-3,
        probe_s=2.0,
        has_gpus=True,
        shares_memory=False,
        # The time of the small message is mostly latency. The large message has several chunks in each channel of NCCL.
        probe_sizes=(1024, 16 * 1024**2),
        probe_delay_s=5e-3,
        probe_operations=160,
    ),
    "cpu": DeviceSpec(
        name="cpu",
        transport="gloo",
        bindings=("gloo",),
        missing_timings={Timing.GRAPH: _NO_GRAPHS},
        missing_on_default_stream={Timing.GATED: _INLINE, Timing.ENQUEUE: _INLINE},
        missing_probes={"allocator": "the CPU's queues keep their tensors in memory", "capture": _NO_GRAPHS},
        sizes="8:1M:x8",
        overlap_sizes="64K:1M:x16",
        hidden="256",
        tokens="1,16",
        layers="8",
        delays="0,1000,5000",
        few_sizes="8,64K",
        dtype="bfloat16",
        max_seconds=17.0,
        setup_s=6.0,
        new_ranks_s=0.5,
        communicator_s=0.2,
        operation_s=200e-6,
        bytes_per_s=0.5e9,
        memory_bytes_per_s=1e9,
        multiplications_per_s=1e9,
        batch_overhead_s=3e-3,
        probe_s=1.4,
        has_gpus=False,
        figures_notice="CPU run: these figures say nothing about GPUs.",
        order_notice="CPU run: it shows how the arms order their calls. It says nothing about GPUs.",
        shares_memory=True,
        missing_nvtx="NVTX is a library of CUDA, and the CPU's build of torch does not have it",
        missing_tuning="Gloo, which the CPU uses instead of NCCL, has no kernels and no log of what it ran",
        missing_memory={
            Memory.EXPANDABLE: "the CPU's memory has no expandable segments",
            Memory.NCCL: "the CPU does not use NCCL, which allocates and registers memory of GPUs",
        },
        probe_sizes=(1024, 256 * 1024),
        # A thread usually waits less than this for a busy core.
        probe_delay_s=8e-3,
        # An operation takes 20 times as long as on a GPU.
        probe_operations=160,
    ),
}
