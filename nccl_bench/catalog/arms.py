"""The arms and the devices, and what each can do. No torch.

The other half of the table in ``collectives``: a rule here is one line of data, with the reason a user is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


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
USER_ARM = "user_arm"


# Communicators that route to others, by a table that can be overridden.
COORDINATORS = frozenset({"coordinator", "coordinator-legacy"})


# The names under which `nccl-bench import` records what another tool measured. A run of such an arm is an import.
IMPORTED_ARMS = frozenset({"nccl-tests"})
