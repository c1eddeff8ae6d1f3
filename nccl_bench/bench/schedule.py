"""How many operations a batch has, how long its gate is, and in which order the arms are visited."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.run import RunConfig
from nccl_bench.plan.batches import BATCH_S, OPS_PER_GRAPH, most_ops_per_batch
from nccl_bench.plan.memory import FEWEST_SLOTS

# Operations of an enqueue batch still have to run: enough calls for the host's clock, no more device time than this.
ENQUEUE_DEVICE_US = 10_000.0
FEWEST_OPS = FEWEST_SLOTS
_GATE_MARGIN_S = 200e-6
_GATE_FACTOR = 2.0
MOST_REPLAYS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """What a pilot measured of one arm, the maximum over ranks, in microseconds per operation."""

    device_us: float
    enqueue_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One case: operations per batch by timing, the same for every arm, and the gates by arm and timing in seconds.

    A graph batch holds ``replays`` replays of a graph of ``ops[Timing.GRAPH]`` operations. Chosen by rank 0 and
    announced. ``fastest_us`` is the shortest operation of any arm, as the pilots saw it.
    """

    fastest_us: float
    ops: Mapping[Timing, int]
    replays: int
    gates_s: Mapping[tuple[str, Timing], float]

    def operations(self, timing: Timing) -> int:
        """Operations in one batch of ``timing``."""
        return self.ops[timing] * (self.replays if TIMINGS[timing].captured else 1)


def make_schedule(config: RunConfig, pilots: Mapping[str, Pilot], slots: int) -> Schedule:
    """A batch is long enough for the fastest arm, and fits the launch queue for the one with the most entries."""
    fastest_us = min(pilot.device_us for pilot in pilots.values())
    slowest_us = max(pilot.device_us for pilot in pilots.values())
    most = most_ops_per_batch(config, pilots)
    eager = _between(FEWEST_OPS, math.ceil((BATCH_S * 1e6) / fastest_us), most)
    enqueue = _between(FEWEST_OPS, int(ENQUEUE_DEVICE_US / slowest_us), most)
    if config.ops_per_batch is not None:
        eager = enqueue = config.ops_per_batch
    graph = config.ops_per_batch or OPS_PER_GRAPH
    if not config.same_buffer:
        # A replay visits each slot once at the most, so that its results can be checked.
        graph = min(graph, slots)
    replays = _between(1, math.ceil((BATCH_S * 1e6) / (graph * fastest_us)), MOST_REPLAYS)
    ops = {
        timing: graph if spec.captured else eager if spec.moves_bytes else enqueue for timing, spec in TIMINGS.items()
    }
    gates = {
        (arm, timing): gate_length_s(pilot.enqueue_us * ops[timing])
        for arm, pilot in pilots.items()
        for timing, spec in TIMINGS.items()
        if spec.gated and not spec.captured
    }
    return Schedule(fastest_us=fastest_us, ops=ops, replays=replays, gates_s=gates)


def gate_length_s(enqueue_us: float) -> float:
    """Seconds that a gate lasts, for calls that took the host ``enqueue_us`` microseconds in a pilot."""
    return _GATE_FACTOR * enqueue_us / 1e6 + _GATE_MARGIN_S


def _between(least: int, value: int, most: int) -> int:
    return max(least, min(value, most))


def visiting_order(arms: Sequence[str], seed: int, *where: object) -> list[str]:
    """The arms in an order that is random over ``where`` and the same on every rank."""
    order = list(arms)
    random.Random("/".join(map(str, (seed, *where)))).shuffle(order)
    return order
