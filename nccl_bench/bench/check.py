"""The check of results: it counts wrong elements in each arm's outputs, before timing and after each timing."""

from collections.abc import Mapping, Sequence

from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.graphs import captured
from nccl_bench.bench.schedule import Schedule
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.streams.base import Graph

_MOST_SLOTS = 4


def count_wrong_before_timing(context: CaseContext, names: Sequence[str]) -> dict[str, int]:
    """Return each arm's number of wrong elements, summed over all ranks, before anything is timed."""
    return _wrong(context, names, "check before timing", min(_MOST_SLOTS, context.buffers.slots))


def count_wrong_after(
    context: CaseContext, names: Sequence[str], timing: Timing, schedule: Schedule, graphs: Mapping[str, Graph]
) -> dict[str, int]:
    """Return each arm's number of wrong elements, summed over all ranks, after ``timing``. Check ``graphs`` if any."""
    phase, slots = f"check after {timing}", context.buffers.slots
    if not TIMINGS[timing].captured:
        return _wrong(context, names, phase, min(_MOST_SLOTS, slots))
    if schedule.ops[timing] <= slots:
        return _wrong(context, names, phase, schedule.ops[timing], graphs)
    # In place, a second call on a slot makes the slot's result inexact. So check a graph that uses each slot once.
    with captured(context, names, slots) as single:
        return _wrong(context, names, phase, slots, single)


def _wrong(
    context: CaseContext,
    names: Sequence[str],
    phase: str,
    operations: int,
    graphs: Mapping[str, Graph] | None = None,
) -> dict[str, int]:
    counts = dict.fromkeys(names, 0)
    if not context.config.check:
        return counts
    buffers, streams = context.buffers, context.streams
    for name in context.arms.visit(names, phase):
        buffers.poison(operations)
        if graphs is not None:
            graphs[name].replay()
        else:
            context.call_each(name, operations)
        # Report one more step of progress. A rank that is stuck in its calls is then behind, and is blamed for a hang.
        context.arms.report(name, f"{phase}, waiting")
        # Wait for the caller's stream only: work that the arm did not join to that stream must count as not done.
        streams.current_stream().synchronize()
        counts[name] = buffers.wrong(operations)
        streams.synchronize()
    return dict(zip(names, context.control.sum(list(counts.values())), strict=True))
