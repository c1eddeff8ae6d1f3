"""The CPU time of each arm's call, divided into its parts, and the time that the parts do not explain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from nccl_bench.analysis.rows import Rows
from nccl_bench.analysis.summary import Row
from nccl_bench.catalog.arms import is_twin
from nccl_bench.catalog.cases import kind_of
from nccl_bench.catalog.cost_parts import CostPart
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.cost_split import CostSplit


@dataclass(frozen=True, slots=True, kw_only=True)
class CostedCall:
    """A call of one arm at one size. All times are microseconds."""

    row: Row  # the row of `enqueue`
    parts: Mapping[CostPart, float]  # the time of each known part
    enqueue_us: float | None  # the measured time of the whole call on the CPU; None if it was discarded
    device_us: float | None  # the time of the call on the device, from `gated`; None if that was not measured
    graph_nodes: int | None  # the nodes of a CUDA graph of the call; None if none was captured

    @property
    def sum_us(self) -> float | None:
        """The sum of the parts; ``None`` without a part."""
        return sum(self.parts.values()) if self.parts else None

    @property
    def rest_us(self) -> float | None:
        """The call's time minus the sum of its parts; negative if parts take longer alone. ``None`` if unknown."""
        return None if self.sum_us is None or self.enqueue_us is None else self.enqueue_us - self.sum_us


def costed_calls(rows: Rows) -> tuple[CostedCall, ...]:
    """Return the calls of all arms but twins; empty if no part of a call was measured and no node was counted."""
    if all(rows.column(each.name).count(None) == len(rows) for each in fields(CostSplit)):
        return ()
    of_cells: dict[tuple[object, ...], dict[str, Row]] = {}
    for row in rows:
        if row.timing and row.arm and not is_twin(row.arm):
            of_cells.setdefault((kind_of(row), row.size_bytes, row.arm), {})[row.timing] = row
    calls = [_costed_call(timings) for timings in of_cells.values() if Timing.ENQUEUE in timings]
    return tuple(calls) if any(call.parts or call.graph_nodes is not None for call in calls) else ()


def _costed_call(timings: Mapping[str, Row]) -> CostedCall:
    row, gated, graph = timings[Timing.ENQUEUE], timings.get(Timing.GATED), timings.get(Timing.GRAPH)
    times_us = {CostPart.STREAM: row.stream_us, CostPart.FORK: row.fork_us}
    times_us |= {CostPart.CALL: row.call_us, CostPart.JOIN: row.join_us}
    return CostedCall(
        row=row,
        parts={part: time_us for part, time_us in times_us.items() if time_us is not None},
        enqueue_us=row.time_us,
        device_us=gated.time_us if gated else None,
        graph_nodes=graph.graph_nodes if graph else None,
    )


def few_sizes(sizes: Sequence[int]) -> list[int]:
    """Return the first, the middle and the last of sorted ``sizes``."""
    return sorted({sizes[0], sizes[len(sizes) // 2], sizes[-1]})
