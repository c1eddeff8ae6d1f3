"""The coordinator's routing table: which backend carries each operation, eagerly and in CUDA graphs.

The default routes are those of the engines (see the table in SGLang's parallel_state.py): torch.distributed carries
everything outside of graphs. Only within ``graph_capture()``, the communicator is enabled and carries everything.
"""

from collections.abc import Mapping
from enum import StrEnum

from nccl_bench.catalog.arms import COORDINATORS
from nccl_bench.catalog.collectives import COLLECTIVES


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
ROUTED_OPERATIONS = (*_COLLECTIVES, "send", "recv")
ROUTES: Routes = {
    operation: {Mode.EAGER: Backend.TORCH, Mode.GRAPH: Backend.COMMUNICATOR} for operation in ROUTED_OPERATIONS
}
# Operation without a choice of backends -> what carries the operation.
UNROUTED: Mapping[str, str] = {
    "barrier": "always on the control group, which is Gloo: a barrier of NCCL is a collective that blocks the host",
    "cp_all_gather_into_tensor_async": "the communicator if it is enabled, else torch.distributed",
}
