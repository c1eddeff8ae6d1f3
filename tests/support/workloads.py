"""Made-up workloads."""

from __future__ import annotations

from nccl_bench.catalog.timings import Timing
from nccl_bench.config.workload import Workload, WorkloadMessage


def message(size_bytes: int, count: int, timing: Timing = Timing.EAGER, **changes: object) -> WorkloadMessage:
    """Return an all-reduce of bfloat16 elements in a group of two ranks."""
    fields = {"collective": "all_reduce", "dtype": "bfloat16", "ranks": 2, **changes}
    return WorkloadMessage(size_bytes=size_bytes, count=count, timing=timing, **fields)  # type: ignore[arg-type]


# Two steps of a model: the same all-reduce eagerly and in graphs, and a gather.
WORKLOAD = Workload(
    messages=(
        message(4096, 8),
        message(4096, 64, Timing.GRAPH),
        message(65536, 2, collective="all_gather"),
    ),
    steps=2,
    source=("kineto-rank0.json.gz",),
)
