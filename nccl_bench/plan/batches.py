"""From a configuration to the cases of a run: what is measured, what is left out and why, and what it takes. No torch.

Every rank and the command line compute the same plan from the same configuration, so ``--dry-run`` shows what a worker
will do.
"""

from __future__ import annotations

from collections.abc import Iterable

from nccl_bench.config.run import RunConfig

# Half of a CUDA launch queue of about 1,000 entries: beyond that the host would block inside a timed batch.
LAUNCH_QUEUE_ENTRIES = 500


OPS_PER_GRAPH = 32


# Long against the resolution of events (about half a microsecond) and against what is left of the ranks' skew.
BATCH_S = 1e-3


def most_ops_per_batch(config: RunConfig, arms: Iterable[str]) -> int:
    """The most operations a batch of these arms may hold with every entry below half the launch queue."""
    return LAUNCH_QUEUE_ENTRIES // max(config.arm(name).launch_entries for name in arms)
