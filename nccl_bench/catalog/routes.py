"""The coordinator's routing table: which backend carries each operation, eagerly and in CUDA graphs. No torch.

The defaults are the engines': outside of graphs torch.distributed carries everything and the communicator is off,
within ``graph_capture()`` it is the reverse (SGLang's table of use, parallel_state.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from nccl_bench.errors import UsageError


class Mode(StrEnum):
    """Where an operation is called."""

    EAGER = "eager"
    GRAPH = "graph"  # within the coordinator's graph_capture()


class Backend(StrEnum):
    """What carries an operation."""

    TORCH = "torch"  # torch.distributed, synchronous, on the device group
    COMMUNICATOR = "communicator"  # the coordinator's own


Routes = Mapping[str, Mapping[Mode, Backend]]

# The v of all_gatherv and reduce_scatterv: blocks of uneven sizes.
ROUTED_OPERATIONS = (
    "all_reduce",
    "all_gather",
    "all_gatherv",
    "reduce_scatter",
    "reduce_scatterv",
    "all_to_all",
    "broadcast",
    "reduce",
    "send",
    "recv",
    "send_recv",
)
ROUTES: Routes = {
    operation: {Mode.EAGER: Backend.TORCH, Mode.GRAPH: Backend.COMMUNICATOR} for operation in ROUTED_OPERATIONS
}
# What has no choice of a backend, and why.
UNROUTED: Mapping[str, str] = {
    "barrier": "always on the control group, which is Gloo: a barrier of NCCL is a collective that blocks the host",
    "cp_all_gather_into_tensor_async": "the communicator where it is enabled, else torch.distributed",
}


def override(overrides: Iterable[str], routes: Routes = ROUTES) -> Routes:
    """``routes`` with ``overrides`` applied in their order, each ``[OPERATION.]MODE=BACKEND``.

    Without an operation it holds for all of them. Raises ``UsageError`` for what is none of these.
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
