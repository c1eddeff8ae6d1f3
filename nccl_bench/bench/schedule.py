"""The schedule of a case: operations in a batch, lengths of gates, and the order in which arms are visited."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.run import RunConfig
from nccl_bench.plan.batches import BATCH_S, OPS_PER_GRAPH, most_ops_per_batch
from nccl_bench.plan.memory import FEWEST_SLOTS

# The operations of an enqueue batch run after it. They may take the device this long.
ENQUEUE_DEVICE_US = 10_000.0
FEWEST_OPS = FEWEST_SLOTS
MOST_REPLAYS = 50
_GATE_MARGIN_S = 200e-6
_GATE_FACTOR = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """The first measurement of an arm, microseconds per operation, the maximum over ranks."""

    device_us: float  # with the launch cost, from an empty queue
    enqueue_us: float  # the CPU thread's time for the call


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The sizes of one case's batches, the same for every arm. Rank 0 decides on them for all ranks."""

    fastest_us: float  # the shortest operation of any arm in its pilot
    ops: Mapping[Timing, int]  # operations in a batch; where the timing captures, operations in a graph
    replays: int  # replays of a graph in a batch
    gates_s: Mapping[tuple[str, Timing], float]  # arm and timing -> length of the gate; absent for eager and graph

    def operations(self, timing: Timing) -> int:
        """Return the number of operations in one batch of ``timing``."""
        return self.ops[timing] * (self.replays if TIMINGS[timing].captured else 1)


def make_schedule(config: RunConfig, pilots: Mapping[str, Pilot], slots: int) -> Schedule:
    """Return a schedule whose batches are long enough for the fastest arm and fit every arm's launch queue."""
    fastest_us = min(pilot.device_us for pilot in pilots.values())
    slowest_us = max(pilot.device_us for pilot in pilots.values())
    most = most_ops_per_batch(config, pilots)
    eager = _clamp(math.ceil((BATCH_S * 1e6) / fastest_us), FEWEST_OPS, most)
    enqueue = _clamp(int(ENQUEUE_DEVICE_US / slowest_us), FEWEST_OPS, most)
    if config.ops_per_batch is not None:
        eager = enqueue = config.ops_per_batch
    graph = config.ops_per_batch or OPS_PER_GRAPH
    if not config.same_buffer:
        # A replay visits each slot once at the most, so that its results can be checked.
        graph = min(graph, slots)
    replays = _clamp(math.ceil((BATCH_S * 1e6) / (graph * fastest_us)), 1, MOST_REPLAYS)
    ops = {
        timing: graph if spec.captured else eager if spec.moves_bytes else enqueue for timing, spec in TIMINGS.items()
    }
    gates_s = {
        (arm, timing): gate_length_s(pilot.enqueue_us * ops[timing])
        for arm, pilot in pilots.items()
        for timing, spec in TIMINGS.items()
        if spec.gated and not spec.captured
    }
    return Schedule(fastest_us=fastest_us, ops=ops, replays=replays, gates_s=gates_s)


def gate_length_s(enqueue_us: float) -> float:
    """Return the length of a gate, seconds, for calls that took the host ``enqueue_us`` microseconds in a pilot."""
    return _GATE_FACTOR * enqueue_us / 1e6 + _GATE_MARGIN_S


def _clamp(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))


def visiting_order(arms: Sequence[str], seed: int, *where: object) -> list[str]:
    """Return the arms in an order that is random over ``where`` and the same on every rank."""
    order = list(arms)
    random.Random("/".join(map(str, (seed, *where)))).shuffle(order)
    return order
