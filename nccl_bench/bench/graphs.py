"""The CUDA graphs of one case, one for each arm. Graphs of short operations are in the best page of launch memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.schedule import Schedule
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.streams.base import Graph

# If an operation takes longer, the page of launch memory does not matter: pages differ by up to 0.3 us, which is at
# most 1 %.
_PAGE_MATTERS_UP_TO_US = 30.0


def graphs_of(
    context: CaseContext, names: Sequence[str], timing: Timing, schedule: Schedule
) -> AbstractContextManager[Mapping[str, Graph]]:
    """Return a context manager that gives a graph for each arm of this process; no graphs if ``timing`` needs none."""
    if not TIMINGS[timing].captured:
        return nullcontext({})
    return captured(context, names, schedule.ops[timing], best=schedule.fastest_us <= _PAGE_MATTERS_UP_TO_US)


@contextmanager
def captured(
    context: CaseContext,
    names: Sequence[str],
    operations: int,
    *,
    best: bool = False,
    keep: Mapping[str, list[object]] | None = None,
) -> Iterator[Mapping[str, Graph]]:
    """Yield a graph of ``operations`` calls for each arm of this process. Reset the graphs after the ``with`` block.

    With ``best``, the graphs are in the best launch memory. ``keep`` has a list for each arm. The list gets what the
    calls of the arm return. Without ``keep``, a result gets the memory of an earlier result of its graph, as in an
    engine. After an exception the graphs are not reset: a failed capture can make the process unusable, and the process
    ends.
    """
    capture = partial(_capture, context, operations, keep or {})
    if best:
        graphs = context.arms.exclusively(partial(_best_graphs, context, names, operations, capture))
    else:
        graphs = {name: capture(name) for name in context.arms.present(names)}
    yield graphs
    context.streams.synchronize()
    for graph in graphs.values():
        graph.reset()


def _capture(context: CaseContext, operations: int, keep: Mapping[str, list[object]], name: str) -> Graph:
    context.arms.report(name, "graph capture")
    kept = keep[name].append if name in keep else None
    return context.arms[name].capture(partial(context.call_each, name, operations, kept))


def _best_graphs(
    context: CaseContext, names: Sequence[str], operations: int, capture: Callable[[str], Graph]
) -> dict[str, Graph]:
    arms = context.arms
    # The first arm decides which page is best. Arms that fork and join come first: their times depend most on the page.
    in_order = sorted(arms.present(names), key=lambda name: not arms[name].can_move)
    if not in_order:
        return {}
    begin_choice = partial(arms.report, in_order[0], "choice of graphs")
    return context.launch_memory.best_graphs(
        in_order, capture, operations, context.clock, arms.ranks.own_set, begin_choice
    )
