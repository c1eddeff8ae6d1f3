"""The arms and the devices, and what each can do. No torch.

The other half of the table in ``collectives``: a rule here is one line of data, with the reason a user is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from nccl_bench.collectives import COLLECTIVES, DTYPES, Placement, RedOp, Timing


class Order(StrEnum):
    """How an arm's calls are ordered with the caller's stream."""

    CURRENT = "current"  # on the caller's stream, or ordered with it by the communicator itself
    FORK_JOIN = "fork-join"  # on a private stream; the caller forks and joins with preallocated events
    WAIT_STREAM = "wait-stream"  # the same with Stream.wait_stream, as callers write it
    BARE = "bare"  # on a private stream, ordered with nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSpec:
    """One arm.

    ``communicator`` is a name in ``communicators.registry``. ``launch_entries`` is the most entries of the device's
    launch queue that one operation takes: batches are kept below half of that queue. ``private_streams`` is how many
    streams its communicator keeps for as long as it lives. ``extra`` is the extra of this package that it needs, and
    ``transports`` are those of the devices that it can run on.
    """

    name: str
    communicator: str
    order: Order
    launch_entries: int
    summary: str
    private_streams: int = 0
    timed: bool = True
    default: bool = False
    extra: str | None = None
    transports: tuple[str, ...] = ("nccl", "gloo")


_ARM_ROWS = (
    ArmSpec(
        name="stream-free",
        communicator="stream-free",
        order=Order.CURRENT,
        launch_entries=1,
        summary="after the refactor: always the current stream",
        default=True,
    ),
    ArmSpec(
        name="dedicated-stream",
        communicator="dedicated-stream",
        order=Order.FORK_JOIN,
        launch_entries=5,
        summary="before it: a private stream, which the caller forks and joins",
        private_streams=1,
        default=True,
    ),
    ArmSpec(
        name="torch",
        communicator="process-group",
        order=Order.CURRENT,
        launch_entries=5,
        summary="torch.distributed, synchronous",
        default=True,
    ),
    ArmSpec(
        name="torch-async",
        communicator="process-group-async",
        order=Order.FORK_JOIN,
        launch_entries=5,
        summary="torch.distributed with async_op=True, then wait()",
        default=True,
    ),
    ArmSpec(
        name="dedicated-stream-wait-stream",
        communicator="dedicated-stream",
        order=Order.WAIT_STREAM,
        launch_entries=5,
        summary="the private stream, ordered with Stream.wait_stream as callers write it",
        private_streams=1,
    ),
    ArmSpec(
        name="stream-free-torch-stream",
        communicator="stream-free-torch-stream",
        order=Order.CURRENT,
        launch_entries=1,
        summary="stream-free, with the stream fetched by torch.cuda.current_stream() instead of its raw handle",
    ),
    ArmSpec(
        name="nccl4py",
        communicator="nccl4py",
        order=Order.CURRENT,
        launch_entries=5,
        summary="NVIDIA's bindings as people use them: nccl.core.Communicator, handed the current stream",
        extra="nccl4py",
        transports=("nccl",),
    ),
    ArmSpec(
        name="transport",
        communicator="bare-transport",
        order=Order.CURRENT,
        launch_entries=1,
        summary="the transport's call alone, its arguments looked up beforehand: the floor under stream-free",
    ),
    ArmSpec(
        name="coordinator",
        communicator="coordinator",
        order=Order.CURRENT,
        launch_entries=5,
        summary="an engine's group coordinator after the refactor: torch eagerly, stream-free in graphs",
        private_streams=1,
    ),
    ArmSpec(
        name="coordinator-legacy",
        communicator="coordinator-legacy",
        order=Order.CURRENT,
        launch_entries=5,
        summary="the coordinator before it: the current stream handed through every call",
        private_streams=2,
    ),
    ArmSpec(
        name="dedicated-stream-unordered",
        communicator="dedicated-stream",
        order=Order.BARE,
        launch_entries=1,
        summary="the private stream, ordered with nothing: a race, for proofs only",
        private_streams=1,
        timed=False,
    ),
)
ARMS: Mapping[str, ArmSpec] = {arm.name: arm for arm in _ARM_ROWS}
DEFAULT_ARMS = tuple(arm.name for arm in _ARM_ROWS if arm.default)
DEFAULT_BASELINE = "dedicated-stream"
# An arm's twin is the same arm once more, with a communicator of its own: where the two differ, it is noise.
TWIN_SUFFIX = ":twin"


def twin_of(name: str) -> str:
    """The name of an arm's twin."""
    return name + TWIN_SUFFIX


def arm_spec(name: str) -> ArmSpec:
    """The row of an arm, or that of a twin, which differs from its arm's by the name alone."""
    return replace(ARMS[name.removesuffix(TWIN_SUFFIX)], name=name)


# What the row of an arm of somebody else's has for its communicator.
PLUGIN = "plugin"
# Communicators that route to others, by a table that can be overridden.
COORDINATORS = frozenset({"coordinator", "coordinator-legacy"})


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

_REDUCING = frozenset(name for name, row in COLLECTIVES.items() if row.reduces)
_FLOAT8 = frozenset(name for name in DTYPES if name.startswith("float8"))
_INTEGERS = frozenset(name for name, dtype in DTYPES.items() if not dtype.is_float)
_TORCH = frozenset({"process-group", "process-group-async"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """A combination that does not work; an empty set matches everything."""

    reason: str
    transports: frozenset[str] = frozenset()
    communicators: frozenset[str] = frozenset()
    collectives: frozenset[str] = frozenset()
    dtypes: frozenset[str] = frozenset()
    redops: frozenset[RedOp] = frozenset()
    placements: frozenset[Placement] = frozenset()


_RULES = (
    _Rule(
        reason="Gloo does not reduce float8",
        transports=frozenset({"gloo"}),
        collectives=_REDUCING,
        dtypes=_FLOAT8,
    ),
    _Rule(
        reason="Gloo does not average integers",
        transports=frozenset({"gloo"}),
        collectives=_REDUCING,
        dtypes=_INTEGERS,
        redops=frozenset({RedOp.AVG}),
    ),
    _Rule(
        reason="torch.distributed has no out-of-place form of it",
        communicators=_TORCH,
        collectives=frozenset({"all_reduce", "broadcast", "reduce"}),
        placements=frozenset({Placement.OUT_OF_PLACE}),
    ),
    _Rule(
        reason="torch.distributed has no out-of-place form of it, and a coordinator may route to it",
        communicators=COORDINATORS,
        collectives=frozenset({"broadcast", "reduce"}),
        placements=frozenset({Placement.OUT_OF_PLACE}),
    ),
    _Rule(
        reason="torch.distributed exchanges messages asynchronously only, which is the torch-async arm",
        communicators=frozenset({"process-group"}),
        collectives=frozenset({"send_recv"}),
    ),
)


def unsupported(
    arm: ArmSpec, device: DeviceSpec, collective: str, dtype: str, redop: RedOp | None, placement: Placement
) -> str | None:
    """Why ``arm`` cannot do this on ``device``, or ``None`` where it can."""
    facts = (
        (device.transport, "transports"),
        (arm.communicator, "communicators"),
        (collective, "collectives"),
        (dtype, "dtypes"),
        (redop, "redops"),
        (placement, "placements"),
    )
    for rule in _RULES:
        if all(not getattr(rule, field) or value in getattr(rule, field) for value, field in facts):
            return rule.reason
    return None
