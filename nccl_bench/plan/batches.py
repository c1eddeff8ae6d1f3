"""The sizes of a batch: how long it lasts, and how many operations it may hold."""

from __future__ import annotations

from collections.abc import Iterable

from nccl_bench.config.run import RunConfig

# Half of a CUDA launch queue of about 1,000 entries. With more, the host would block inside a timed batch.
LAUNCH_QUEUE_ENTRIES = 500
OPS_PER_GRAPH = 32
# Long against the resolution of events (about 0.5 us) and against what remains of the skew between the ranks.
BATCH_S = 1e-3


def most_ops_per_batch(config: RunConfig, arms: Iterable[str]) -> int:
    """Return the most operations of a batch with which each of ``arms`` stays below half the launch queue."""
    return LAUNCH_QUEUE_ENTRIES // max(config.arm(name).launch_entries for name in arms)
