"""The table of arms: the communicator of each arm, and how calls are ordered with the caller's stream."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class Order(StrEnum):
    """The ways to order a call with the caller's stream."""

    CURRENT = "current"  # on the caller's stream; or the communicator itself orders the call
    FORK_JOIN = "fork-join"  # on a private stream; the caller forks and joins with preallocated events
    WAIT_STREAM = "wait-stream"  # like fork-join, with Stream.wait_stream instead of preallocated events
    BARE = "bare"  # on a private stream, without any order


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSpec:
    """A row of the table of arms."""

    name: str  # the name that --arms takes
    communicator: str  # a name in communicators.registry, or USER_ARM
    summary: str  # one line for `nccl-bench list`
    order: Order = Order.CURRENT  # how a call is ordered with the caller's stream
    launch_entries: int = 5  # the most entries that one operation takes in the device's launch queue
    # Whether several calls of one operation reach the launch queue as one call, as the calls of a group of NCCL do.
    groups_calls: bool = True
    private_streams: int = 0  # the number of streams that the communicator keeps as long as it exists
    timed: bool = True  # whether a run can measure the arm; False: it is for verification only
    default: bool = False  # whether the arm is measured if the user chooses no arms
    extra: str | None = None  # the optional package that the arm needs; None if it needs none
    any_binding: bool = False  # whether a user arm with this target can choose the binding of its transport
    transports: tuple[str, ...] = ("nccl", "gloo")  # the transports that the arm can use


_ROWS = (
    ArmSpec(
        name="stream-free",
        communicator="stream-free",
        any_binding=True,
        summary="the new design: always the current stream",
        launch_entries=1,
        default=True,
    ),
    ArmSpec(
        name="dedicated-stream",
        communicator="dedicated-stream",
        any_binding=True,
        summary="the old design: a private stream, which the caller forks and joins",
        order=Order.FORK_JOIN,
        private_streams=1,
        default=True,
    ),
    ArmSpec(
        name="torch",
        communicator="process-group",
        groups_calls=False,
        summary="torch.distributed, synchronous",
        default=True,
    ),
    ArmSpec(
        name="torch-async",
        communicator="process-group-async",
        groups_calls=False,
        summary="torch.distributed with async_op=True, then wait()",
        order=Order.FORK_JOIN,
        default=True,
    ),
    ArmSpec(
        name="dedicated-stream-wait-stream",
        communicator="dedicated-stream",
        any_binding=True,
        summary="dedicated-stream, forked and joined with Stream.wait_stream",
        order=Order.WAIT_STREAM,
        private_streams=1,
    ),
    ArmSpec(
        name="stream-free-torch-stream",
        communicator="stream-free-torch-stream",
        any_binding=True,
        summary="stream-free, with the stream from torch.cuda.current_stream() instead of a raw handle",
        launch_entries=1,
    ),
    ArmSpec(
        name="nccl4py",
        communicator="nccl4py",
        summary="NVIDIA's bindings as users call them: nccl.core.Communicator with the current stream",
        extra="nccl4py",
        transports=("nccl",),
    ),
    ArmSpec(
        name="transport",
        communicator="bare-transport",
        any_binding=True,
        summary="only the transport's call, with prepared arguments: stream-free cannot be faster than this arm",
        launch_entries=1,
    ),
    ArmSpec(
        name="coordinator",
        communicator="coordinator",
        groups_calls=False,  # torch.distributed carries its eager calls
        summary="an engine's group coordinator, new design: torch.distributed outside graphs, stream-free in graphs",
        private_streams=1,
    ),
    ArmSpec(
        name="coordinator-legacy",
        communicator="coordinator-legacy",
        groups_calls=False,
        summary="the coordinator, old design: every call gets the current stream as an argument",
        private_streams=2,
    ),
    ArmSpec(
        name="dedicated-stream-unordered",
        communicator="dedicated-stream",
        any_binding=True,
        summary="dedicated-stream without any order: it races, for verification only",
        order=Order.BARE,
        launch_entries=1,
        private_streams=1,
        timed=False,
    ),
)
ARMS: Mapping[str, ArmSpec] = {row.name: row for row in _ROWS}
DEFAULT_ARMS = tuple(row.name for row in _ROWS if row.default)
DEFAULT_BASELINE = "dedicated-stream"

# The communicator in the row of a user arm.
USER_ARM = "user_arm"
# The methods that end a user's object. An arm calls the first of them that an object has, and drops an object that has
# none.
ENDING_METHODS = ("close", "destroy", "shutdown")
BUILT_IN_COMMUNICATORS = frozenset(row.communicator for row in _ROWS)
# Communicators that route each operation to a backend. The user can override the routes.
COORDINATORS = frozenset({"coordinator", "coordinator-legacy"})
# The arms that `nccl-bench import` records for the results of other tools -> the built-in arm that makes its calls in
# the same way. A run with such an arm is an imported run.
IMPORTED_ARMS: Mapping[str, str] = {"nccl-tests": "stream-free"}

TWIN_SUFFIX = ":twin"


def twin_of(name: str) -> str:
    """Return the name of an arm's twin: the same arm with a communicator of its own, which shows the noise floor."""
    return name + TWIN_SUFFIX


def is_twin(name: str) -> bool:
    """Return True if ``name`` is the name of a twin."""
    return name.endswith(TWIN_SUFFIX)


def fair_pair(first: str, second: str) -> tuple[str, str] | None:
    """Return the imported arm and the built-in arm that makes the same calls, if the two arms are such a pair."""
    return next((pair for pair in ((first, second), (second, first)) if IMPORTED_ARMS.get(pair[0]) == pair[1]), None)


def arm_spec(name: str) -> ArmSpec:
    """Return the row of an arm or a twin. The rows of an arm and its twin differ only in the name."""
    return replace(ARMS[name.removesuffix(TWIN_SUFFIX)], name=name)
