"""The messages of a rank as rows for reports, and as a workload."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.workload import Workload, WorkloadMessage
from nccl_bench.errors import RecordError
from nccl_bench.traces.joining import Traffic
from nccl_bench.traces.recording import Message, Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A message and how often it was sent, or kernels without a size."""

    collective: str  # a name of the catalog; or scatter, send, recv, barrier or unknown
    dtype: str | None  # the name in torch; None if it is not known
    size_bytes: int | None  # the size as nccl-tests counts it; None if it is not known
    sent_bytes: int | None  # what one rank sends; None if it is not known
    ranks: int | None  # the number of ranks in the group; None if it is not known
    uneven: bool  # True if the blocks of the ranks differ
    mode: Mode  # how the calls were made
    streams: tuple[str, ...]  # the streams as the file names them; empty if they are not known
    kernels: tuple[str, ...]  # the kernels, in NCCL's words, such as ``RING/LL``; empty if no log has them
    calls: int  # the number of calls


def rows_of(traffic: Traffic) -> tuple[Row, ...]:
    """Return the rows of one rank: by mode, then the largest messages first, then kernels without a size."""
    counts: Counter[tuple[Message, Mode]] = Counter()
    streams: dict[tuple[Message, Mode], set[str]] = defaultdict(set)
    for call, count in traffic.calls.items():
        counts[call.message, call.mode] += count
        streams[call.message, call.mode] |= {call.stream} - {""}
    rows = [
        Row(
            **message._asdict(),
            mode=mode,
            streams=tuple(sorted(streams[message, mode])),
            kernels=traffic.kernels.get(message, ()),
            calls=count,
        )
        for (message, mode), count in counts.items()
    ]
    rows += [
        Row(
            collective=collective,
            dtype=None,
            size_bytes=None,
            sent_bytes=None,
            ranks=None,
            uneven=False,
            mode=mode,
            streams=(streams_of_launch,) if streams_of_launch else (),
            kernels=(),
            calls=count,
        )
        for (mode, collective, streams_of_launch), count in traffic.unseen.items()
    ]
    modes = list(Mode)
    return tuple(sorted(rows, key=lambda row: (modes.index(row.mode), row.size_bytes is None, -(row.size_bytes or 0))))


def workload_of(traffic: Traffic, steps: int) -> tuple[Workload, tuple[str, ...]]:
    """Return the workload of one rank, and sentences about the calls that it lacks.

    Raises ``RecordError`` if no call can be in a workload.
    """
    counts: Counter[tuple[str, str, int, int, Timing]] = Counter()
    lacking: Counter[str] = Counter()
    unknown = 0
    for row in rows_of(traffic):
        reason = _reason_to_leave_out(row)
        if reason or row.dtype is None or row.size_bytes is None or row.ranks is None:
            lacking[reason] += row.calls
            continue
        unknown += row.calls if row.mode is Mode.UNKNOWN else 0
        timing = Timing.GRAPH if row.mode is Mode.GRAPH else Timing.EAGER
        counts[row.collective, row.dtype, row.size_bytes, row.ranks, timing] += row.calls
    remarks = [f"{count} calls are not in the workload: {reason}" for reason, count in lacking.items()]
    if unknown:
        remarks.append(f"{unknown} calls are in the workload as eager calls: no file says how they were made")
    if not counts:
        raise RecordError("; ".join(["no call can be in a workload", *remarks]))
    messages = tuple(
        WorkloadMessage(collective=collective, dtype=dtype, size_bytes=size, ranks=ranks, timing=timing, count=count)
        for (collective, dtype, size, ranks, timing), count in counts.items()
    )
    return Workload(messages=messages, steps=steps, source=traffic.files), tuple(remarks)


def _reason_to_leave_out(row: Row) -> str:
    """Return why the calls of ``row`` cannot be measured; an empty text if they can."""
    reasons: Sequence[tuple[bool, str]] = (
        (row.size_bytes is None, "their sizes are unknown"),
        (row.collective not in COLLECTIVES, f"{row.collective} is no collective that is measured"),
        (row.dtype is None, "their data type is unknown"),
        (row.dtype not in DTYPES, f"{row.dtype} is no data type that is measured"),
        (row.ranks is None, "the number of ranks in their group is unknown"),
        (row.ranks == 1, "their group has one rank"),
        (row.uneven, "the blocks of the ranks differ in size"),
        (row.size_bytes == 0, "they send nothing"),
    )
    return next((text for applies, text in reasons if applies), "")
