"""The schedule of a case: the operations in a batch, and the lengths of gates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.run import RunConfig
from nccl_bench.plan.batches import BATCH_S, OPS_PER_GRAPH, UNTIMED_CALLS, most_ops_per_batch
from nccl_bench.plan.memory import FEWEST_SLOTS
from nccl_bench.plan.scenarios import NO_WORK, WorkPlan

# The duration of a batch of enqueue. It is shorter than other batches, because the host's clock resolves nanoseconds.
ENQUEUE_BATCH_S = 0.5e-3
# The device runs the calls of an enqueue batch after the timed part. There they take at most this time.
ENQUEUE_DEVICE_US = 4_000.0
FEWEST_OPS = FEWEST_SLOTS
MOST_REPLAYS = 50
_GATE_MARGIN_S = 200e-6
# A small factor is enough: if a gate opens early, its batch is discarded, and the next gates of the arm are longer.
_GATE_FACTOR = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """The first times of an arm: each is the maximum over the ranks, in microseconds per operation."""

    device_us: float  # the device's time; it includes the launch cost, because the queue is empty at the start
    enqueue_us: float  # the host's time for the call


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The number of operations in each batch of a case (the same for every arm), and the lengths of the gates."""

    fastest_us: float  # the time of one operation in the pilot of the fastest arm
    ops: Mapping[Timing, int]  # the number of timed operations in a batch, or in a graph if the timing captures graphs
    # The number of calls before the timed ones. They fill the CPU's caches, which are cold after the wait for the
    # previous batch. Only a timing of the calls themselves has such calls.
    untimed: Mapping[Timing, int]
    replays: int  # the number of replays of a graph in a batch
    gates_s: Mapping[tuple[str, Timing], float]  # (arm, timing) -> length of the gate; absent for eager and graph

    def operations(self, timing: Timing) -> int:
        """Return the number of timed operations in one batch of ``timing``."""
        return self.ops[timing] * (self.replays if TIMINGS[timing].captured else 1)

    def calls(self, timing: Timing) -> int:
        """Return the number of calls that the host makes for one batch, or for one graph, of ``timing``."""
        return self.untimed[timing] + self.ops[timing]


def make_schedule(
    config: RunConfig,
    pilots: Mapping[str, Pilot],
    slots: int,
    work: WorkPlan = NO_WORK,
    *,
    calls_write_inputs: bool = False,
    uneven_ranks: int = 0,
) -> Schedule:
    """Return a schedule. The batches are long enough for the fastest arm, and fit the launch queue for every arm.

    If ``work`` has a number of operations, each batch has this number, or fewer if the launch queue is too short.
    """
    fastest_us = min(pilot.device_us for pilot in pilots.values())
    slowest_us = max(pilot.device_us for pilot in pilots.values())
    most = most_ops_per_batch(config, pilots, uneven_ranks)
    eager = _clamp(math.ceil((BATCH_S * 1e6) / fastest_us), FEWEST_OPS, most)
    cheapest_us = max(min(pilot.enqueue_us for pilot in pilots.values()), 1e-3)
    long_enough = math.ceil((ENQUEUE_BATCH_S * 1e6) / cheapest_us) + UNTIMED_CALLS
    calls = _clamp(min(long_enough, int(ENQUEUE_DEVICE_US / slowest_us)), FEWEST_OPS, most)
    untimed_calls = min(UNTIMED_CALLS, calls // 2)
    enqueue = calls - untimed_calls
    if config.ops_per_batch is not None:
        eager = enqueue = min(config.ops_per_batch, most)
        untimed_calls = min(UNTIMED_CALLS, most - enqueue)
    if work.operations is not None:
        eager = min(work.operations, most)
    graph = work.operations or config.ops_per_batch or OPS_PER_GRAPH
    if not config.same_buffer and not calls_write_inputs:
        # A replay uses each slot at most once, so that its results can be checked.
        graph = min(graph, slots)
    replays = _clamp(math.ceil((BATCH_S * 1e6) / (graph * fastest_us)), 1, MOST_REPLAYS)
    ops = {
        timing: graph if spec.captured else eager if spec.moves_bytes else enqueue for timing, spec in TIMINGS.items()
    }
    untimed = {timing: 0 if spec.moves_bytes else untimed_calls for timing, spec in TIMINGS.items()}
    gates_s = {
        (arm, timing): gate_length_s(pilot.enqueue_us * (untimed[timing] + ops[timing]))
        for arm, pilot in pilots.items()
        for timing, spec in TIMINGS.items()
        if spec.gated and not spec.captured
    }
    return Schedule(fastest_us=fastest_us, ops=ops, untimed=untimed, replays=replays, gates_s=gates_s)


def gate_length_s(enqueue_us: float) -> float:
    """Return the length of a gate in seconds, for calls that the host enqueues in ``enqueue_us`` microseconds."""
    return _GATE_FACTOR * enqueue_us / 1e6 + _GATE_MARGIN_S


def _clamp(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))
