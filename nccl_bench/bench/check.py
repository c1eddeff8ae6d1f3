"""The check of results: it counts the wrong elements of each arm, before the first timing and after each timing."""

from collections.abc import Mapping, Sequence

from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.graphs import captured
from nccl_bench.bench.schedule import Schedule
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.streams.base import Graph

_MOST_SLOTS = 4


def count_wrong_before_timing(context: CaseContext, names: Sequence[str]) -> dict[str, int]:
    """Count the wrong elements of each arm before the first timing. Return each arm's sum over all ranks."""
    return _wrong(context, names, "check before timing", min(_MOST_SLOTS, context.buffers.slots))


def count_wrong_after(
    context: CaseContext, names: Sequence[str], timing: Timing, schedule: Schedule, graphs: Mapping[str, Graph]
) -> dict[str, int]:
    """Count the wrong elements of each arm after ``timing``. Replay ``graphs``, if any. Return sums over all ranks."""
    phase, slots = f"check after {timing}", context.buffers.slots
    if not TIMINGS[timing].captured:
        return _wrong(context, names, phase, min(_MOST_SLOTS, slots))
    if schedule.ops[timing] <= slots:
        return _wrong(context, names, phase, schedule.ops[timing], graphs)
    # A second in-place call on a slot makes the result inexact. So check another graph, which uses each slot once.
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
        # Only a rank that has made its calls reports this step. A hang is blamed on the rank with the fewest steps.
        context.arms.report(name, f"{phase}, waiting")
        # Wait only for the caller's stream: the check must fail if the arm did not join its work to that stream.
        streams.current_stream().synchronize()
        counts[name] = buffers.wrong(operations)
        streams.synchronize()
    return dict(zip(names, context.control.sum(list(counts.values())), strict=True))
