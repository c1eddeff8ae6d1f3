"""The tables of an overlap: its parts, the share of the collective that is hidden, and what the overlap costs."""

from collections.abc import Iterator

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.description import figures_notices
from nccl_bench.analysis.summary import Row
from nccl_bench.analysis.wording import case_name, counted, percent
from nccl_bench.catalog.arms import is_twin
from nccl_bench.catalog.cases import kind_of
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.sizes import format_size
from nccl_bench.report.layout import Table, column, microseconds, pairs

_HIDDEN = (
    "hidden: the share of the collective's time that the overlap hides: (sequence - together) / (sequence - product)."
)
_SLOWER = "slower: how much longer the product and the collective take together than in sequence; ? is unknown."
# The slowdown of a collective on a stream that a library hides.
_UNKNOWN = "?"


def part_tables(analysis: Analysis) -> Iterator[Table]:
    """Yield a table for each kind of overlap and each timing; a row per size and arm."""
    run = analysis.run
    if run is None:
        return
    groups: dict[tuple[object, str], list[Row]] = {}
    measured = [at for at, product in enumerate(analysis.rows.column("product")) if product is not None]
    rows_with_parts = analysis.rows.at(measured)
    for row in rows_with_parts:
        if row.arm and row.timing and not is_twin(row.arm):
            groups.setdefault((kind_of(row), row.timing), []).append(row)
    notes = [_HIDDEN, *([_SLOWER] if any(map(_has_slowdown, rows_with_parts)) else []), *figures_notices([run.device])]
    for timing in Timing:
        for (_, of_timing), rows in groups.items():
            if of_timing == timing:
                yield _table(run.world_size, timing, sorted(rows, key=lambda row: row.size_bytes or 0), notes)
                # One explanation is enough for all tables.
                notes = []


def _table(ranks: int, timing: Timing, rows: list[Row], notes: list[str]) -> Table:
    columns = [
        column("size", ("size",), [format_size(row.size_bytes or 0) for row in rows]),
        column("arm", ("arm",), [row.arm or "" for row in rows], left=True),
        column("product", ("product",), [microseconds(row.product_us) for row in rows]),
        column("collective", ("collective",), [microseconds(row.collective_us) for row in rows]),
        column("sequence", ("sequence",), [microseconds(row.sequence_us) for row in rows]),
        column("together", ("together",), [microseconds(row.together_us) for row in rows]),
        column("hidden (%)", ("hidden", "%"), [_percent(row.hidden_share) for row in rows]),
    ]
    if any(map(_has_slowdown, rows)):
        both = [
            (_percent(row.product_slowdown, sign=True), _percent(row.collective_slowdown, sign=True) or _UNKNOWN)
            for row in rows
        ]
        columns.append(column("product, collective slower (%)", ("product,", "collective", "slower %"), pairs(both)))
    return Table(
        title=f"{case_name(rows[0])}, {counted(ranks, 'rank')}, {timing} parts (us)",
        notes=(f"product: {_products(rows)}.", *notes),
        columns=tuple(columns),
        keep=2,
        gap=1,
    )


def _has_slowdown(row: Row) -> bool:
    return row.product_slowdown is not None


def _products(rows: list[Row]) -> str:
    """Return the product in words, with the sizes if it differs from size to size."""
    products = dict.fromkeys((row.size_bytes or 0, row.product or "") for row in rows)
    if len({product for _, product in products}) == 1:
        return rows[0].product or ""
    return ", ".join(f"{product} at {format_size(size)}" for size, product in products)


def _percent(share: float | None, *, sign: bool = False) -> str:
    return "" if share is None else percent(share, sign=sign)
