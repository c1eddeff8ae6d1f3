"""The check of results: it counts the wrong elements of each arm, before the first timing and after each timing.

All arms use the same buffers. So an arm whose work goes on after its calls can make the results of other arms wrong. If
any result is wrong, ``second_look`` finds out whose fault that is.
"""

from collections.abc import Mapping, Sequence

from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.graphs import captured
from nccl_bench.bench.schedule import Schedule
from nccl_bench.bench.second_look import Errors, call_poisoned, look_again
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.streams.base import Graph

_MOST_SLOTS = 4


def check_before_timing(context: CaseContext, names: Sequence[str]) -> dict[str, Errors]:
    """Count the errors of each arm before the first timing. Return each arm's sums over all ranks."""
    return _check(context, names, "check before timing", min(_MOST_SLOTS, context.buffers.slots))


def check_after(
    context: CaseContext, names: Sequence[str], timing: Timing, schedule: Schedule, graphs: Mapping[str, Graph]
) -> dict[str, Errors]:
    """Count the errors of each arm after ``timing``. Replay ``graphs``, if any. Return sums over all ranks."""
    phase, slots = f"check after {timing}", context.buffers.slots
    if not TIMINGS[timing].captured:
        return _check(context, names, phase, min(_MOST_SLOTS, slots))
    if schedule.ops[timing] <= slots:
        return _check(context, names, phase, schedule.ops[timing], graphs)
    # A second in-place call on a slot makes the result inexact. So check another graph, which uses each slot once.
    with captured(context, names, slots) as single:
        return _check(context, names, phase, slots, single)


def _check(
    context: CaseContext,
    names: Sequence[str],
    phase: str,
    operations: int,
    graphs: Mapping[str, Graph] | None = None,
) -> dict[str, Errors]:
    counts = dict.fromkeys(names, 0)
    if context.config.check:
        for name in context.arms.visit(names, phase):
            call_poisoned(context, name, phase, operations, graphs)
            counts[name] = context.buffers.wrong(operations)
            context.streams.synchronize()
        counts = dict(zip(names, context.control.sum(list(counts.values())), strict=True))
    if any(counts.values()):
        return look_again(context, counts, phase, min(_MOST_SLOTS, operations), in_graphs=graphs is not None)
    return dict.fromkeys(names, Errors())
