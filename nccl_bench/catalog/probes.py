"""The table of probes: the experiments on stream order, and the arms and devices that each one applies to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from nccl_bench.catalog.arms import USER_ARM, ArmSpec, Order
from nccl_bench.catalog.devices import DeviceSpec

# The arm that must fail the probes: nothing orders its private stream.
DETECTOR = "dedicated-stream-unordered"


class Place(StrEnum):
    """The stream that is current when an arm is called."""

    DEFAULT = "default stream"
    SIDE = "side stream"
    NESTED = "nested stream"
    OUTER = "side stream, after a nested one"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """A row of the table of probes. The probes of an arm run in the order of the table."""

    name: str  # the name that --probes takes
    summary: str  # what the probe does and expects, one line
    # Whether a failure ends the processes, because a failure can make a process unusable. The rows of such probes come
    # last.
    ends_processes: bool = False
    races: bool = False  # whether a call without order can make the probe fail
    detects: bool = False  # whether a call without order must make the probe fail, in every run and at every place
    by_construction: bool = False  # whether the probe looks at who waits for whom; False: it is an experiment
    held_back: bool = False  # whether the probe delays the stream; if calls run immediately, the probe sees no race
    missing: Mapping[str, str] = field(default_factory=dict)  # communicator -> why the probe does not apply to it


_NO_PROMISE = "only built-in arms promise what this probe tests; user arms are probed for order and lifetime"
_NO_GATHER_OF_TORCH = "torch.distributed has no all-gather on a stream of the caller's choice"

_ROWS = (
    ProbeSpec(
        name="order",
        summary="watches calls between a write and a copy: streams and events must order both, whatever the result is",
        races=True,
        detects=True,
        by_construction=True,
    ),
    ProbeSpec(
        name="producer",
        summary="queues a slow kernel and a write to the input, then calls the arm: the result must use the new input",
        races=True,
        detects=True,
        held_back=True,
    ),
    ProbeSpec(
        name="consumer",
        summary="poisons the output, calls the arm and copies the output immediately: the copy must hold the result",
        races=True,
        detects=True,
    ),
    ProbeSpec(
        name="allocator",
        summary="frees the input right after the call and overwrites its memory: the result must be right",
        races=True,
    ),
    ProbeSpec(
        name="state",
        summary="nests change_state(True), (False) and (None), and raises inside: a disabled arm must refuse calls",
        missing={USER_ARM: _NO_PROMISE},
    ),
    ProbeSpec(
        name="async",
        summary="runs the context-parallel all-gather: the caller's stream must stay free, the result must be right",
        missing={
            "process-group": _NO_GATHER_OF_TORCH,
            "process-group-async": _NO_GATHER_OF_TORCH,
            "nccl4py": "this arm calls nccl4py on the current stream, and has no all-gather on another stream",
        },
    ),
    ProbeSpec(
        name="many",
        summary="runs thousands of operations of two communicators on one stream: each result must be right",
        races=True,
    ),
    ProbeSpec(
        name="lifetime",
        summary="creates and closes two communicators: threads, files, streams and device memory must not increase",
    ),
    ProbeSpec(
        name="capture",
        summary="captures a CUDA graph, then replays it on two streams with fresh inputs: each result must be right",
        ends_processes=True,
        races=True,
    ),
)
PROBES: Mapping[str, ProbeSpec] = {row.name: row for row in _ROWS}


def blind_places(probe: ProbeSpec, device: DeviceSpec) -> frozenset[Place]:
    """Return the places where ``probe`` cannot detect a race on ``device``, so that a pass there means nothing."""
    return frozenset({Place.DEFAULT} if probe.held_back and device.inline_default_stream else ())


def not_applicable(probe: ProbeSpec, arm: ArmSpec, device: DeviceSpec) -> str | None:
    """Return why ``probe`` does not apply to ``arm`` on ``device``; ``None`` if the probe applies."""
    if probe.name in device.missing_probes:
        return device.missing_probes[probe.name]
    if arm.order is Order.BARE and not probe.races:
        return "the probe does not test order, and an arm without order is probed for order only"
    return probe.missing.get(arm.communicator)
