"""The outputs of an arm's calls: those in the buffers of the case, and those that the calls return."""

from collections.abc import Sequence
from itertools import chain

from torch import Tensor

from nccl_bench.bench.context import CaseContext
from nccl_bench.catalog.collectives import Placement
from nccl_bench.communicators.outputs import concatenated, tensors_of
from nccl_bench.errors import SetupError
from nccl_bench.streams.base import Graph


def call_poisoned(
    context: CaseContext,
    name: str,
    phase: str,
    operations: int,
    graph: Graph | None = None,
    results: list[object] | None = None,
) -> list[Tensor]:
    """Poison the outputs, make the calls of an arm or replay its graph, and wait for the caller's stream.

    Return the outputs. ``results`` has the tensors that the calls of ``graph`` have returned; a replay writes them
    again.
    """
    returned = [] if results is None else results
    context.buffers.poison(operations, context.placements[name], [*chain.from_iterable(map(tensors_of, returned))])
    if graph is not None:
        graph.replay()
    else:
        context.call_each(name, operations, returned.append)
    # Only a rank that has made its calls reports this step. A hang is blamed on the rank with the fewest steps.
    context.arms.report(name, f"{phase}, waiting")
    # Wait only for the caller's stream: the check must fail if the arm did not join its work to that stream.
    context.streams.current_stream().synchronize()
    return _outputs(context, name, operations, returned)


def _outputs(context: CaseContext, name: str, operations: int, returned: Sequence[object]) -> list[Tensor]:
    placement = context.placements[name]
    for slot, result in enumerate(returned):
        shown = context.placement_shown_by(name, slot, result)
        if shown is not placement and (shown is not None or placement is Placement.RETURNED):
            raise SetupError(
                f"one call in {context.case.label} was {placement} and another one {shown or 'returned None'}: all "
                "calls of one size must have the same placement"
            )
    if placement is not Placement.RETURNED:
        return context.buffers.outputs(operations, placement)
    return [output for output in map(concatenated, returned) if output is not None]
