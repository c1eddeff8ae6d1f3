"""The percentiles of the times of single operations, measured with events between the operations."""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.measure import LONGEST_GATE, KeptBatches
from nccl_bench.bench.schedule import Schedule
from nccl_bench.bench.stopping import ATTEMPTS_PER_ROUND
from nccl_bench.bench.timing import no_garbage_collection
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.plan.batches import LAUNCH_QUEUE_ENTRIES, launch_entries
from nccl_bench.records.schema import PerIteration

# With fewer operations, the 99th percentile would be almost the maximum.
PER_ITERATION_OPERATIONS = 300


def measure_per_iteration(
    context: CaseContext,
    names: Sequence[str],
    timing: Timing,
    schedule: Schedule,
    kept: Mapping[str, KeptBatches],
) -> dict[str, PerIteration]:
    """Return the percentiles of each arm's single operations on the slowest rank; an empty mapping if not configured.

    ``kept`` has batches without events. The difference between the medians with and without events is the events' cost.
    """
    percentiles = {}
    if context.config.per_iteration and TIMINGS[timing].per_iteration:
        for name in names:
            times_us = _single_operations_us(context, name, timing, schedule)
            batches_us = kept[name].times_us().values()
            if times_us and batches_us:
                percentiles[name] = _percentiles(times_us, statistics.median(batches_us))
    return percentiles


def _single_operations_us(context: CaseContext, name: str, timing: Timing, schedule: Schedule) -> list[float]:
    # An event follows each operation, and takes one more entry of the launch queue.
    most = LAUNCH_QUEUE_ENTRIES // (launch_entries(context.config, name, context.uneven_ranks) + 1)
    operations = max(1, min(schedule.ops[timing], most))
    calls = {present: context.calls(present, operations) for present in context.arms.present([name])}
    first_gate_s = schedule.gates_s.get((name, timing))
    gate_s = None if first_gate_s is None else 2 * first_gate_s
    kept: list[float] = []
    for _ in range(ATTEMPTS_PER_ROUND * -(-PER_ITERATION_OPERATIONS // operations)):
        times_us, held = [0.0] * operations, True
        for present in context.arms.visit([name], f"{timing} per iteration"):
            context.restore(operations)
            with no_garbage_collection():
                times_us, held = context.clock.per_iteration(calls[present], gate_s)
        *slowest_us, opened_early = context.control.maximum([*times_us, 0.0 if held else 1.0])
        if not opened_early:
            kept += slowest_us
        elif gate_s is not None and first_gate_s is not None:
            gate_s = min(2 * gate_s, LONGEST_GATE * first_gate_s)
        if len(kept) >= PER_ITERATION_OPERATIONS:
            break
    return kept


def _percentiles(times_us: Sequence[float], batch_us: float) -> PerIteration:
    minimum, p50, p90, p99, maximum = (float(x) for x in np.percentile(times_us, [0, 50, 90, 99, 100]))
    cost_us = p50 - batch_us
    return PerIteration(
        operations=len(times_us),
        min_us=minimum,
        p50_us=p50,
        p90_us=p90,
        p99_us=p99,
        max_us=maximum,
        # Noise can make this difference negative. Costs are never negative, so a negative difference is not recorded.
        cost_us=cost_us if cost_us > 0 else None,
    )
