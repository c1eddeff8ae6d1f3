"""The parts of a call, each measured alone."""

from dataclasses import dataclass

from nccl_bench.catalog.bounds import Count, TimeOrZeroUs


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSplit:
    """The parts of one arm's call. A part that the arm does not have, or that cannot be made alone, is ``None``.

    The line of ``enqueue`` has the times: microseconds of the CPU thread without the loop of the measurement, the
    maximum over ranks, the median over rounds. The line of ``graph`` has the nodes.
    """

    stream_us: TimeOrZeroUs | None = None  # the fetch of the stream
    fork_us: TimeOrZeroUs | None = None  # the fork to the private stream
    call_us: TimeOrZeroUs | None = None  # the call of the library alone, with prepared arguments
    join_us: TimeOrZeroUs | None = None  # the join of the private stream
    graph_nodes: Count | None = None  # the nodes of a CUDA graph of one call
