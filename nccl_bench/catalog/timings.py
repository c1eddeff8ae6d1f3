"""The table of timings: the time that each one measures, and how its batches are made."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Timing(StrEnum):
    """The names of the timings, in the order in which they are measured and listed."""

    EAGER = "eager"
    GATED = "gated"
    GRAPH = "graph"
    ENQUEUE = "enqueue"

    # The hash of the text, which is fast. `Enum` computes its hash in Python, and reports look up many members.
    __hash__ = str.__hash__


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingSpec:
    """A row of the table of timings."""

    title: str  # the name in the title of a table
    question: str  # the time that is measured, in words
    in_short: str  # how a call is timed, in a few words that follow "a call"
    gated: bool = True  # whether a gate holds the stream until the host has enqueued the whole batch
    captured: bool = False  # whether the operations are captured into a CUDA graph, which the batch replays
    moves_bytes: bool = True  # whether a bandwidth can be computed; False: only the CPU thread is timed
    includes_launch_cost: bool = False  # whether the speed of the CPU thread that makes the calls decides the time
    per_iteration: bool = False  # whether events between the operations can time each operation
    # The timing that replaces this timing in a workload if the device lacks it; None if no timing is similar.
    stand_in: Timing | None = None


TIMINGS: Mapping[Timing, TimingSpec] = {
    Timing.EAGER: TimingSpec(
        title="eager latency",
        question="The time of one of many back-to-back calls. The queue is empty at first. Launch cost is included.",
        in_short="as its caller sees it",
        gated=False,
        includes_launch_cost=True,
        per_iteration=True,
    ),
    Timing.GATED: TimingSpec(
        title="gated latency",
        question="The time of one operation on the device, launch cost excluded.",
        in_short="on the device alone",
        per_iteration=True,
    ),
    Timing.GRAPH: TimingSpec(
        title="graph latency",
        question="The time of one operation inside a captured CUDA graph.",
        in_short="in a CUDA graph",
        captured=True,
        # Neither timing contains the launch cost.
        stand_in=Timing.GATED,
    ),
    Timing.ENQUEUE: TimingSpec(
        title="enqueue cost",
        question="The time that one call costs the CPU thread.",
        in_short="on the CPU",
        includes_launch_cost=True,
        moves_bytes=False,
    ),
}
