"""The table of probes: what each one asks, and to which arms and devices it applies. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from nccl_bench.catalog.arms import USER_ARM, ArmSpec, Order
from nccl_bench.catalog.devices import DeviceSpec

# The arm that has to fail: its communicator works on a private stream that nothing orders.
DETECTOR = "dedicated-stream-unordered"


class Place(StrEnum):
    """The stream that is current when an arm is called."""

    DEFAULT = "default stream"
    SIDE = "side stream"
    NESTED = "nested stream"
    OUTER = "side stream, after a nested one"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """One probe. ``alone``: where it fails it can leave a process unusable, so it runs in processes of its own.

    ``races`` says that calls without order can fail it, ``detects`` that they have to, in every run and at every place;
    save, with ``held_back``, where the stream runs inline and so holds nothing back.
    """

    name: str
    summary: str
    alone: bool = False
    races: bool = False
    detects: bool = False
    held_back: bool = False


_ROWS = (
    ProbeSpec(
        name="producer",
        summary="a slow kernel, the write of the input, the collective: the result is of what was written",
        races=True,
        detects=True,
        held_back=True,
    ),
    ProbeSpec(
        name="consumer",
        summary="the collective, at once a copy of its poisoned output: the copy holds the result",
        races=True,
        detects=True,
    ),
    ProbeSpec(
        name="allocator",
        summary="the input freed right after the call, its memory taken and overwritten: the result stays right",
        races=True,
    ),
    ProbeSpec(
        name="capture",
        summary="captured into a CUDA graph, replayed on fresh inputs, also on another stream",
        alone=True,
        races=True,
    ),
    ProbeSpec(
        name="state",
        summary="change_state nested, under an exception, with None; a disabled call raises and writes nothing",
    ),
    ProbeSpec(
        name="async",
        summary="the context-parallel all-gather leaves the caller's stream free, and is right once joined",
    ),
    ProbeSpec(
        name="many",
        summary="two communicators interleaved on one stream, thousands of operations, eager and replayed graphs",
        races=True,
    ),
    ProbeSpec(
        name="lifetime",
        summary="ten cycles of create and close leave threads, files, device memory and streams as they were",
    ),
)
PROBES: Mapping[str, ProbeSpec] = {row.name: row for row in _ROWS}


def blind_places(probe: ProbeSpec, device: DeviceSpec) -> frozenset[Place]:
    """Where ``probe`` cannot see a race on ``device``, so that to pass there says nothing."""
    return frozenset({Place.DEFAULT} if probe.held_back and device.inline_default_stream else ())


def not_applicable(probe: ProbeSpec, arm: ArmSpec, device: DeviceSpec) -> str | None:
    """Why ``probe`` has nothing to ask of ``arm`` on ``device``, or ``None`` where it has."""
    if probe.name in device.missing_probes:
        return device.missing_probes[probe.name]
    if arm.order is Order.BARE and not probe.races:
        return "it asks nothing of the order of calls, in which alone this arm differs"
    if probe.name in ("state", "async") and arm.communicator == USER_ARM:
        return "it asks for what our own communicators promise; yours is asked for the order of its calls and its life"
    if probe.name == "async" and arm.communicator.startswith("process-group"):
        return "torch.distributed has no all-gather on a stream of the caller's choice"
    if probe.name == "async" and arm.communicator == "nccl4py":
        return "this arm calls nccl4py on the current stream, and has no all-gather on one of the caller's choice"
    return None
