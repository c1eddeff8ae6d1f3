"""The tables of scenarios: times of a layer and of a token, wait and transfer of a late rank, parts of an overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.skew import slope
from nccl_bench.analysis.summary import Row
from nccl_bench.analysis.wording import case_name, counted, joined, size_with_unit
from nccl_bench.catalog.arms import is_twin
from nccl_bench.catalog.cases import Scenario, kind_of, tokens_of
from nccl_bench.catalog.timings import Timing
from nccl_bench.report.layout import Column, Table, column, microseconds
from nccl_bench.report.parts import part_tables

_LAYER = "layer: the time of a layer. token: the time of all layers, divided by the number of tokens."
_SKEW = (
    "late: the delay that the late rank had, as its device measured it. early ranks: the time of the slowest rank, "
    "which waits. transfer: the time of the late rank, for which all others wait. wait: early ranks minus transfer."
)


def scenario_tables(analysis: Analysis) -> Iterator[Table]:
    """Yield the tables that only one scenario has; none for ``isolated``."""
    for side, rows in analysis.rows_of_runs:
        known = [at for at, scenario in enumerate(rows.column("scenario")) if scenario in _TABLES]
        timed = [row for row in rows.at(known) if row.time_us is not None and not is_twin(row.arm or "")]
        for scenario, make in _TABLES.items():
            of_scenario = [row for row in timed if row.scenario == scenario]
            if of_scenario:
                yield from make(side, of_scenario)
    yield from part_tables(analysis)


def _chain_tables(side: str, rows: Sequence[Row]) -> Iterator[Table]:
    """Yield a table for each kind of chain: a row for each number of tokens and arm."""
    for _, of_table in _grouped(rows, kind_of):
        cells = {(row.size_bytes or 0, row.arm or "", row.timing or ""): row for row in of_table}
        lines = {(size, arm): row for (size, arm, _), row in cells.items()}
        columns = [
            column("tokens", ("tokens",), [str(tokens_of(row) or "") for row in lines.values()]),
            column("size", ("size",), [size_with_unit(size) for size, _ in lines]),
            column("arm", ("arm",), [arm for _, arm in lines], left=True),
        ]
        for timing in (timing for timing in Timing if any(timing == row.timing for row in of_table)):
            of_timing = [cells.get((*line, timing)) for line in lines]
            layers = [microseconds(None if row is None else row.time_us) for row in of_timing]
            tokens = [microseconds(None if row is None else row.per_token_us) for row in of_timing]
            columns += [_of_timing(timing, "layer", layers), _of_timing(timing, "token", tokens)]
        name = _name(side, of_table)
        yield Table(title=f"{name} (us)", notes=(_LAYER,), columns=tuple(columns), keep=3, gap=2)


def _of_timing(timing: Timing, per: str, texts: Sequence[str]) -> Column:
    return column(f"{timing} {per}", (timing, per), texts)


def _skew_tables(side: str, rows: Sequence[Row]) -> Iterator[Table]:
    """Yield a table for each kind of case, size and timing: a row for each delay and arm."""
    meaning = [_SKEW]
    for _, of_table in _grouped(rows, lambda row: (row.size_bytes, row.timing, kind_of(_without_delay(row)))):
        first = of_table[0]
        texts: Mapping[str, list[str]] = {
            "delay": ["" if row.delay_us is None else str(row.delay_us) for row in of_table],
            "arm": [row.arm or "" for row in of_table],
            "late": [microseconds(row.measured_delay_us) for row in of_table],
            "early ranks": [microseconds(row.time_us) for row in of_table],
            "wait": [microseconds(row.wait_us) for row in of_table],
            "transfer": [microseconds(row.transfer_us) for row in of_table],
        }
        columns = [column(name, (name,), cells, left=name == "arm") for name, cells in texts.items()]
        name = _name(side, [_without_delay(row) for row in of_table])
        yield Table(
            title=f"{name}, {size_with_unit(first.size_bytes or 0)}, {first.timing} (us)",
            notes=(*meaning, *_slopes(of_table)),
            columns=tuple(columns),
            keep=len(columns),
            gap=2,
        )
        # One explanation is enough for all tables.
        meaning = []


def _slopes(rows: Sequence[Row]) -> Iterator[str]:
    slopes = {arm: slope(of_arm) for (arm,), of_arm in _grouped(rows, lambda row: (row.arm,))}
    texts = [f"{value:.2f} us with {arm}" for arm, value in slopes.items() if value is not None]
    if texts:
        yield f"For each us of delay the early ranks take longer by {joined(texts)}."


def _without_delay(row: Row) -> Row:
    return replace(row, delay_us=None)


def _grouped(
    rows: Sequence[Row], key: Callable[[Row], tuple[object, ...]]
) -> Iterator[tuple[tuple[object, ...], list[Row]]]:
    """Yield ``rows`` grouped by ``key``, each group once and in the order of measurement."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    yield from groups.items()


def _name(side: str, rows: Sequence[Row]) -> str:
    first = rows[0]
    name = f"{case_name(first, {row.arm_placement or '' for row in rows})}, {counted(first.world_size or 0, 'rank')}"
    return f"{side}: {name}" if side else name


_TABLES: Mapping[Scenario, Callable[[str, Sequence[Row]], Iterator[Table]]] = {
    Scenario.CHAIN: _chain_tables,
    Scenario.SKEW: _skew_tables,
}
