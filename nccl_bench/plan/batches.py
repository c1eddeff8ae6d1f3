"""The limits of a batch: how long it lasts, and how many operations it may have."""

from collections.abc import Iterable

from nccl_bench.catalog.scenarios import SCENARIOS
from nccl_bench.config.run import RunConfig

# Half of a CUDA launch queue, which has roughly 1,000 entries. If the queue fills up, the host blocks in a timed batch.
LAUNCH_QUEUE_ENTRIES = 500
OPS_PER_GRAPH = 32
# The duration of a batch: much longer than the resolution of events (roughly 0.5 us) and the delay between ranks.
BATCH_S = 1e-3
# A batch that times the calls themselves begins with this many calls that are not timed. They fill the CPU's caches.
UNTIMED_CALLS = 4


def launch_entries(config: RunConfig, arm: str, uneven_ranks: int = 0) -> int:
    """Return the largest number of entries that an operation and the work around it take in the launch queue.

    ``uneven_ranks`` is the number of ranks if the collective is an uneven form: see ``Collective.uneven_ranks``.
    """
    spec = config.arm(arm)
    # For an uneven form, torch.distributed enqueues one collective for each rank, and a copy.
    calls = 1 if spec.groups_calls or not uneven_ranks else 1 + uneven_ranks
    return calls * (spec.launch_entries + SCENARIOS[config.scenario].launch_entries)


def most_ops_per_batch(config: RunConfig, arms: Iterable[str], uneven_ranks: int = 0) -> int:
    """Return the largest number of operations per batch with which no arm takes more than half of the launch queue."""
    return max(1, LAUNCH_QUEUE_ENTRIES // max(launch_entries(config, name, uneven_ranks) for name in arms))
