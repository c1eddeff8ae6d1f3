"""The check of results: it counts the wrong elements of each arm, before the first timing and after each timing.

Each result is compared twice: when the caller's stream has passed the arm's calls, and when the device is idle. A
result that is right the first time and wrong the second time was written late.

All arms use the same buffers. So an arm whose work goes on after its calls can make the results of other arms wrong. If
any result is wrong or was written late, ``second_look`` finds the arms that are to blame.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType

from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.graphs import captured
from nccl_bench.bench.outputs import call_poisoned
from nccl_bench.bench.schedule import Schedule
from nccl_bench.bench.second_look import Errors, look_again
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.plan.memory import CHECKED_RESULTS
from nccl_bench.streams.base import Graph

_NO_GRAPHS: Mapping[str, Graph] = MappingProxyType({})
_NO_RESULTS: Mapping[str, list[object]] = MappingProxyType({})


def check_before_timing(context: CaseContext, names: Sequence[str]) -> dict[str, Errors]:
    """Count the errors of each arm before the first timing. Return each arm's sums over all ranks."""
    return _check(context, dict.fromkeys(names, _checked_slots(context)), "check before timing")


def check_after(
    context: CaseContext, names: Sequence[str], timing: Timing, schedule: Schedule, graphs: Mapping[str, Graph]
) -> dict[str, Errors]:
    """Count the errors of each arm after ``timing``. Replay ``graphs``, if any. Return sums over all ranks."""
    phase, slots, few = f"check after {timing}", context.buffers.slots, _checked_slots(context)
    if not TIMINGS[timing].captured:
        return _check(context, dict.fromkeys(names, few), phase)
    returning = [name for name in names if context.placements[name] is Placement.RETURNED]
    written = [name for name in names if name not in returning]
    results: dict[str, list[object]] = {name: [] for name in returning}
    with ExitStack() as checked:
        # The results of a timed graph share two blocks of memory. So check another graph, which keeps each result.
        graphs = {**graphs, **checked.enter_context(captured(context, returning, few, keep=results))}
        if schedule.ops[timing] > slots:
            # A second in-place call on a slot makes the result inexact. So check a graph that uses each slot once.
            graphs |= checked.enter_context(captured(context, written, slots))
        operations = {name: few if name in returning else min(schedule.ops[timing], slots) for name in names}
        return _check(context, operations, phase, graphs, results)


def _checked_slots(context: CaseContext) -> int:
    return min(CHECKED_RESULTS, context.buffers.slots)


def _check(
    context: CaseContext,
    operations: Mapping[str, int],
    phase: str,
    graphs: Mapping[str, Graph] = _NO_GRAPHS,
    results: Mapping[str, list[object]] = _NO_RESULTS,
) -> dict[str, Errors]:
    """Count the errors of each arm in ``operations``.

    ``operations`` has the number of calls of each arm, or the number in its graph. ``results`` has what the calls in an
    arm's graph have returned.
    """
    wrong, late = dict.fromkeys(operations, 0), dict.fromkeys(operations, 0)
    if context.config.check:
        for name in context.arms.visit(operations, phase):
            outputs = call_poisoned(context, name, phase, operations[name], graphs.get(name), results.get(name))
            wrong[name] = context.buffers.wrong(outputs)
            context.streams.synchronize()
            # A late write can also make a wrong result right. Then the arm is wrong without being late.
            late[name] = max(0, context.buffers.wrong(outputs) - wrong[name])
            if context.placements[name] is Placement.RETURNED:
                # The next check finds this poison if a call returns one of these tensors again without writing it.
                context.buffers.poison(operations[name], Placement.RETURNED, outputs)
        sums = context.control.sum([*wrong.values(), *late.values()])
        wrong = dict(zip(operations, sums[: len(wrong)], strict=True))
        late = dict(zip(operations, sums[len(wrong) :], strict=True))
    errors = {name: Errors(wrong=wrong[name], late=late[name]) for name in operations}
    if any(each.any for each in errors.values()):
        most = min(_checked_slots(context), *operations.values())
        return look_again(context, errors, phase, most, in_graphs=bool(graphs))
    return errors
