"""The limits of a batch: how long it lasts, and how many operations it may have."""

from collections.abc import Iterable

from nccl_bench.catalog.scenarios import SCENARIOS
from nccl_bench.config.run import RunConfig

# Half of a CUDA launch queue, which has roughly 1,000 entries. If the queue fills up, the host blocks in a timed batch.
LAUNCH_QUEUE_ENTRIES = 500
OPS_PER_GRAPH = 32
# The duration of a batch: much longer than the resolution of events (roughly 0.5 us) and the delay between ranks.
BATCH_S = 1e-3
# The first calls of a batch that times the calls themselves. They fill the CPU's caches, and are not timed.
UNTIMED_CALLS = 4


def most_ops_per_batch(config: RunConfig, arms: Iterable[str]) -> int:
    """Return the largest number of operations per batch with which no arm takes more than half of the launch queue."""
    around = SCENARIOS[config.scenario].launch_entries
    return LAUNCH_QUEUE_ENTRIES // max(config.arm(name).launch_entries + around for name in arms)
