"""The messages of a workload as a run measures them: each in one timing, on this device and with these ranks."""

from collections.abc import Iterable, Iterator, Mapping

from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.workload import Workload, WorkloadMessage
from nccl_bench.errors import UsageError

# (collective, data type) -> size in bytes -> the timings in which this size is measured.
Measured = Mapping[tuple[str, str], Mapping[int, tuple[Timing, ...]]]


def measured_size(message: WorkloadMessage, world_size: int) -> int:
    """Return the size in bytes that is measured for ``message``, after nccl-tests' rounding; 0 if it is too small."""
    row, itemsize = COLLECTIVES[message.collective], DTYPES[message.dtype].itemsize
    count = row.block_count(message.size_bytes, itemsize, world_size)
    return row.size_bytes(count, itemsize, world_size)


def measured_timing(timing: Timing, absent: Mapping[Timing, str]) -> Timing:
    """Return the timing in which messages of ``timing`` are measured on a device without the ``absent`` timings."""
    stand_in = TIMINGS[timing].stand_in
    return stand_in if timing in absent and stand_in is not None else timing


def own_messages(workload: Workload, world_size: int) -> tuple[WorkloadMessage, ...]:
    """Return the messages of groups of ``world_size`` ranks. The run has this many ranks, and measures no other groups.

    Raises ``UsageError`` if there are none.
    """
    own = tuple(message for message in workload.messages if message.ranks == world_size)
    if not own:
        ranks = sorted({message.ranks for message in workload.messages})
        raise UsageError(
            f"the workload has messages of groups of {' and '.join(map(str, ranks))} ranks, and this run has "
            f"{world_size}: give --nproc {ranks[0]}"
        )
    return own


def to_measure(messages: Iterable[WorkloadMessage], absent: Mapping[Timing, str]) -> Measured:
    """Return the sizes of ``messages``, with their timings on a device without the ``absent`` timings."""
    measured: dict[tuple[str, str], dict[int, set[Timing]]] = {}
    for message in messages:
        timing = measured_timing(message.timing, absent)
        if timing not in absent:
            of_kind = measured.setdefault((message.collective, message.dtype), {})
            of_kind.setdefault(message.size_bytes, set()).add(timing)
    return {
        kind: {size: tuple(timing for timing in Timing if timing in sizes[size]) for size in sorted(sizes)}
        for kind, sizes in measured.items()
    }


def differences(workload: Workload, world_size: int, absent: Mapping[Timing, str]) -> Iterator[str]:
    """Yield texts about messages that a run of ``world_size`` ranks measures in another timing, or not at all."""
    yield from workload.remarks
    counts_by_ranks: dict[int, list[int]] = {}
    for message in workload.messages:
        if message.ranks != world_size:
            counts_by_ranks.setdefault(message.ranks, []).append(message.count)
    for ranks, counts in sorted(counts_by_ranks.items()):
        yield (
            f"{len(counts)} of {len(workload.messages)} messages of the workload, {sum(counts)} of its "
            f"{workload.calls} calls, are of groups of {ranks} ranks, and this run has {world_size}: --nproc {ranks} "
            "measures them"
        )
    for timing in dict.fromkeys(message.timing for message in workload.messages if message.timing in absent):
        instead = measured_timing(timing, absent)
        if instead not in absent:
            yield f"{absent[timing]}: the {timing} messages of the workload are measured as {instead}"
