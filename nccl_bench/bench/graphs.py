"""The CUDA graphs of one case: captured for each arm, in the best launch memory where that matters, and reset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.schedule import Schedule
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.streams.base import Graph

# The place of a graph changes an operation by up to 0.3 us, which is one percent of this time.
_PLACE_MATTERS_BELOW_US = 30.0


@contextmanager
def graphs_of(
    context: CaseContext, names: Sequence[str], timing: Timing, schedule: Schedule, launch_memory: LaunchMemory
) -> Iterator[Mapping[str, Graph]]:
    """Yield a graph of one batch's operations for each arm of this process; none where ``timing`` captures nothing.

    After an exception the graphs are not reset: a failed capture can leave the process unusable, and it is ending.
    """
    operations = schedule.ops[timing]
    graphs: Mapping[str, Graph] = {}
    if TIMINGS[timing].captured and schedule.fastest_us > _PLACE_MATTERS_BELOW_US:
        graphs = _capture_each(context, names, operations)
    elif TIMINGS[timing].captured:
        graphs = context.arms.exclusively(partial(_best_graphs, context, names, operations, launch_memory))
    yield graphs
    _reset(context, graphs)


@contextmanager
def captured(context: CaseContext, names: Sequence[str], operations: int) -> Iterator[Mapping[str, Graph]]:
    """Yield a graph of ``operations`` calls for each arm of this process; see ``graphs_of`` for exceptions."""
    graphs = _capture_each(context, names, operations)
    yield graphs
    _reset(context, graphs)


def _capture_each(context: CaseContext, names: Sequence[str], operations: int) -> dict[str, Graph]:
    return {name: _capture(context, operations, name) for name in context.arms.present(names)}


def _capture(context: CaseContext, operations: int, name: str) -> Graph:
    context.arms.report(name, "graph capture")
    return context.arms[name].capture(partial(context.call_each, name, operations))


def _best_graphs(
    context: CaseContext, names: Sequence[str], operations: int, launch_memory: LaunchMemory
) -> dict[str, Graph]:
    arms = context.arms
    # The first arm decides which page is best, and a fork and a join show the differences most.
    in_order = sorted(arms.present(names), key=lambda name: not arms[name].can_move)
    if not in_order:
        return {}
    return launch_memory.best_graphs(
        in_order,
        partial(_capture, context, operations),
        operations,
        context.clock,
        arms.ranks.own_set,
        partial(arms.report, in_order[0], "choice of graphs"),
    )


def _reset(context: CaseContext, graphs: Mapping[str, Graph]) -> None:
    if graphs:
        context.streams.synchronize()
    for graph in graphs.values():
        graph.reset()
