"""The table of timings: the question that each one answers, and how its batches are made."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Timing(StrEnum):
    """The names of the timings, in the order in which they are measured and listed."""

    EAGER = "eager"
    GATED = "gated"
    GRAPH = "graph"
    ENQUEUE = "enqueue"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingSpec:
    """A row of the table of timings."""

    title: str  # the name in the title of a table
    question: str  # the question that the timing answers, as a sentence
    gated: bool = True  # whether a gate holds the stream until the host has enqueued the whole batch
    captured: bool = False  # whether the operations are captured into a CUDA graph, which the batch replays
    moves_bytes: bool = True  # whether a bandwidth can be computed; False: only the CPU thread is timed
    per_iteration: bool = False  # whether events between the operations can time each operation


TIMINGS: Mapping[Timing, TimingSpec] = {
    Timing.EAGER: TimingSpec(
        title="eager latency",
        question="Back-to-back calls from an empty queue, launch cost included.",
        gated=False,
        per_iteration=True,
    ),
    Timing.GATED: TimingSpec(
        title="gated latency",
        question="What the device spends, launch cost excluded.",
        per_iteration=True,
    ),
    Timing.GRAPH: TimingSpec(
        title="graph latency",
        question="One operation inside a captured CUDA graph.",
        captured=True,
    ),
    Timing.ENQUEUE: TimingSpec(
        title="enqueue cost",
        question="What one call costs the CPU thread.",
        moves_bytes=False,
    ),
}
