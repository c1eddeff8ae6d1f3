"""One case on one rank: check, pilots, and for each timing rounds of batches, another check, lines for the record."""

from __future__ import annotations

from collections.abc import Sequence

from nccl_bench.bench.budget import Budget
from nccl_bench.bench.check import wrong_after, wrong_before_timing
from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.graphs import graphs_of
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.measure import measure_rounds, run_pilots
from nccl_bench.bench.per_iteration import measure_per_iteration
from nccl_bench.bench.record import Record, samples_of
from nccl_bench.bench.schedule import make_schedule
from nccl_bench.bench.stopping import Stopping
from nccl_bench.catalog.timings import Timing


def run_case(
    context: CaseContext,
    names: Sequence[str],
    timings: Sequence[Timing],
    *,
    stopping: Stopping,
    budget: Budget,
    launch_memory: LaunchMemory,
    record: Record,
) -> None:
    """Check and measure the arms ``names``, those of other processes included, and record their lines. Collective.

    An arm with a wrong result before timing is not timed.
    """
    wrong = wrong_before_timing(context, names)
    right = [name for name in names if not wrong[name]]
    record.append(samples_of(context, name, timing, wrong[name]) for name in names if wrong[name] for timing in timings)
    if not right:
        return
    _record_paths(context, right, record)
    pilots = run_pilots(context, right)
    schedule = context.control.broadcast(make_schedule(context.config, pilots, context.buffers.slots))
    for timing in timings:
        budget.begin_timing()
        with graphs_of(context, right, timing, schedule, launch_memory) as graphs:
            kept = measure_rounds(context, right, timing, schedule, graphs, stopping, budget)
            percentiles = measure_per_iteration(context, right, timing, schedule, kept)
            wrong = wrong_after(context, right, timing, schedule, graphs)
        record.append(
            samples_of(context, name, timing, wrong[name], schedule, kept[name], percentiles.get(name))
            for name in right
        )


def _record_paths(context: CaseContext, names: Sequence[str], record: Record) -> None:
    """Record what each arm runs, once for each collective."""
    collective = context.case.collective
    unknown = [name for name in names if (collective, name) not in record.paths]
    if not unknown:
        return
    paths = {}
    for name in context.arms.visit(unknown, "trace"):
        paths[collective, name] = context.arms[name].paths(context.case, *context.buffers.pair(0))
        context.streams.synchronize()
    context.restore(1)
    record.paths |= context.arms.merged(paths)
