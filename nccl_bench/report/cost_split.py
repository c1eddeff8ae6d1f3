"""The table of the parts of a call: a row for each size and arm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.cost_split import CostedCall, costed_calls, few_sizes
from nccl_bench.analysis.wording import case_name, counted
from nccl_bench.catalog.cases import kind_of
from nccl_bench.catalog.cost_parts import COST_PARTS, CostPart
from nccl_bench.config.sizes import format_size
from nccl_bench.report.layout import Table, column, microseconds

_MEANING = (
    "Times of the CPU thread. {parts}. rest: enqueue without the parts, which is the arm's own Python and the loop. "
    "device: the time on the device (gated). {nodes}An empty cell is a part that the arm does not have, or that cannot "
    "be made alone."
)
_NODES = "nodes: those of a CUDA graph of one call. "
_OTHER_SIZES = "Other sizes: --full, --to page.html, or summary.csv."


def cost_tables(analysis: Analysis, *, every_size: bool) -> Iterator[Table]:
    """Yield the parts of calls for each kind of case; nothing if none were measured.

    Without ``every_size``, the table has the smallest, the middle and the largest size.
    """
    for side, rows in analysis.rows_of_runs:
        kinds: dict[object, list[CostedCall]] = {}
        for call in costed_calls(rows):
            kinds.setdefault(kind_of(call.row), []).append(call)
        for calls in kinds.values():
            sizes = sorted({call.row.size_bytes or 0 for call in calls})
            shown = sizes if every_size else few_sizes(sizes)
            title = " ".join(filter(None, ("Cost of a call", side)))
            name = case_name(calls[0].row, {call.row.arm_placement or "" for call in calls})
            yield _table(
                f"{title}: {name}, {counted(calls[0].row.world_size or 0, 'rank')} (us)",
                sorted(
                    (call for call in calls if call.row.size_bytes in shown), key=lambda call: call.row.size_bytes or 0
                ),
                () if len(shown) == len(sizes) else (_OTHER_SIZES,),
            )


def _table(title: str, calls: Sequence[CostedCall], notes: tuple[str, ...]) -> Table:
    columns = [
        column("size", ("size",), [format_size(call.row.size_bytes or 0) for call in calls]),
        column("arm", ("arm",), [str(call.row.arm) for call in calls], left=True),
    ]
    times = {part.value: [call.parts.get(part) for call in calls] for part in CostPart}
    times |= {"sum": [call.sum_us for call in calls], "enqueue": [call.enqueue_us for call in calls]}
    times |= {"rest": [call.rest_us for call in calls], "device": [call.device_us for call in calls]}
    nodes = [call.graph_nodes for call in calls]
    has_nodes = any(count is not None for count in nodes)
    columns += [
        column(name, (name,), list(map(microseconds, of_name)))
        for name, of_name in times.items()
        if any(us is not None for us in of_name)
    ]
    if has_nodes:
        columns.append(column("nodes", ("nodes",), ["" if count is None else str(count) for count in nodes]))
    parts = ". ".join(f"{part}: {meaning}" for part, meaning in COST_PARTS.items())
    return Table(
        title=title,
        notes=(_MEANING.format(parts=parts, nodes=_NODES if has_nodes else ""), *notes),
        columns=tuple(columns),
        keep=len(columns),
        gap=2,
    )
