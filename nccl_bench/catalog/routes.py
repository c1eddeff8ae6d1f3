"""The coordinator's routing table: which backend carries each operation, eagerly and in CUDA graphs.

The default routes are those of the engines (SGLang's table of use, parallel_state.py): torch.distributed carries
everything outside of graphs. Only within ``graph_capture()``, the communicator is enabled and carries everything.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from nccl_bench.catalog.arms import COORDINATORS
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.errors import UsageError


class Mode(StrEnum):
    """The two ways to call an operation."""

    EAGER = "eager"
    GRAPH = "graph"  # within the coordinator's graph_capture()


class Backend(StrEnum):
    """The two backends of a coordinator."""

    TORCH = "torch"  # torch.distributed, synchronous, on the device group
    COMMUNICATOR = "communicator"  # the coordinator's own communicator


Routes = Mapping[str, Mapping[Mode, Backend]]

_COLLECTIVES = (
    name
    for name, row in COLLECTIVES.items()
    if not any(row.absence(coordinator, row.placements[0]) for coordinator in COORDINATORS)
)
# The operations whose names end in v have blocks of uneven sizes.
ROUTED_OPERATIONS = (*_COLLECTIVES, "all_gatherv", "reduce_scatterv", "send", "recv")
ROUTES: Routes = {
    operation: {Mode.EAGER: Backend.TORCH, Mode.GRAPH: Backend.COMMUNICATOR} for operation in ROUTED_OPERATIONS
}
# Operation without a choice of backends -> what carries the operation.
UNROUTED: Mapping[str, str] = {
    "barrier": "always on the control group, which is Gloo: a barrier of NCCL is a collective that blocks the host",
    "cp_all_gather_into_tensor_async": "the communicator if it is enabled, else torch.distributed",
}


def override(overrides: Iterable[str], routes: Routes = ROUTES) -> Routes:
    """Return ``routes`` with ``overrides`` applied in their order. An override is ``[OPERATION.]MODE=BACKEND``.

    An override without an operation applies to all operations. Raises ``UsageError`` for a text of another form.
    """
    table = {operation: dict(row) for operation, row in routes.items()}
    for text in overrides:
        place, _, backend = text.partition("=")
        operation, dot, mode = place.rpartition(".")
        if (dot and operation not in table) or mode not in list(Mode) or backend not in list(Backend):
            raise UsageError(
                f"routes has {text!r}: give [OPERATION.]MODE=BACKEND, with an operation of {', '.join(table)}, a mode "
                f"of {', '.join(Mode)} and a backend of {', '.join(Backend)}; for example eager=communicator"
            )
        for name in [operation] if dot else table:
            table[name][Mode(mode)] = Backend(backend)
    return table
