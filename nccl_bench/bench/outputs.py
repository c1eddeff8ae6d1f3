"""The outputs of an arm's calls: those in the buffers of the case, and those that the calls return."""

from collections.abc import Sequence

from torch import Tensor

from nccl_bench.bench.context import CaseContext
from nccl_bench.catalog.collectives import Placement
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

    Return the outputs. ``results`` is what the calls of ``graph`` have returned; a replay writes it again.
    """
    returned = [] if results is None else results
    context.buffers.poison(operations, context.placements[name], _tensors(returned))
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
        if (shown := context.placement_shown_by(name, slot, result)) is not placement:
            raise SetupError(
                f"one call in {context.case.label} was {placement} and another one {shown}: all calls of one size must "
                "be alike"
            )
    return _tensors(returned) if placement is Placement.RETURNED else context.buffers.outputs(operations, placement)


def _tensors(returned: Sequence[object]) -> list[Tensor]:
    return [result for result in returned if isinstance(result, Tensor)]
