"""The tables of a run's figures: latency, bandwidth, and percentiles of single operations."""

from collections.abc import Callable, Iterator, Mapping

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.description import figures_notices
from nccl_bench.analysis.failures import DISCARDED
from nccl_bench.analysis.summary import Row
from nccl_bench.analysis.wording import case_name, counted, format_ratio, significant, times_unit, unit_of, with_notes
from nccl_bench.catalog.arms import TWIN_SUFFIX, is_twin
from nccl_bench.catalog.cases import Case, kind_of
from nccl_bench.catalog.scenarios import hang_word
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.sizes import format_size
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Samples, Status
from nccl_bench.report.layout import Column, Table, bandwidth, column, fold, microseconds, pairs

# The row for each size and arm.
_Cells = Mapping[tuple[int, str], Row]


def measurement_tables(analysis: Analysis) -> Iterator[Table]:
    """Yield a latency and a bandwidth table for each kind of case and timing; none for a comparison of runs."""
    run = analysis.run
    if run is None:
        return
    rows = [row for row in analysis.rows if row.collective]
    kinds: dict[object, list[Row]] = {}
    for row in rows:
        kinds.setdefault(kind_of(row), []).append(row)
    for of_group in kinds.values():
        broken = {_cell_of(row): row for row in of_group if row.arm and row.status in (Hang.kind, Crash.kind)}
        for timing in Timing:
            measured = {_cell_of(row): row for row in of_group if row.timing == timing}
            if not measured:
                continue
            cells = broken | measured
            spec, question = TIMINGS[timing], TIMINGS[timing].question
            loop_us = (run.meta.get("worker") or {}).get("loop_cost_us") if not spec.moves_bytes else None
            if loop_us is not None:
                question += f" The cost of the loop is included: {significant(loop_us)} us."
            placements = {row.arm_placement or "" for row in measured.values()}
            what = f"{case_name(of_group[0], placements)}, {counted(run.world_size, 'rank')}"
            title = f"{what}, {spec.title} ({times_unit(unit_of(of_group[0]))})"
            yield _table(run, title, (question,), cells, ("us", "ratio"), _latency)
            if any(row.busbw_gb_s is not None for row in measured.values()):
                yield _table(run, f"{what}, {timing} bandwidth (GB/s)", (), cells, ("algbw", "busbw"), _bandwidth)


def cell_marks(analysis: Analysis) -> dict[object, dict[tuple[Timing, int, str], str]]:
    """Return the text to show instead of times, by timing, size and arm, for each kind of case: see ``kind_of``."""
    results = zip(analysis.rows.column("status"), analysis.rows.column("time_us"), strict=True)
    unusual = [at for at, (status, time_us) in enumerate(results) if status != Status.OK or time_us is None]
    marked = [(row, _mark(row)) for row in analysis.rows.at(unusual) if row.collective and row.arm]
    # The timings of each kind of case. A row without a timing gets its mark in all of them.
    timings = dict.fromkeys((kind_of(row), Timing(row.timing)) for row in analysis.rows if row.timing) if marked else {}
    marks: dict[object, dict[tuple[Timing, int, str], str]] = {}
    for row, mark in marked:
        kind = kind_of(row)
        of_kind = marks.setdefault(kind, {})
        for timing in [Timing(row.timing)] if row.timing else [known for of, known in timings if of == kind]:
            of_kind.setdefault((timing, row.size_bytes or 0, row.arm or ""), mark)
    return marks


def percentile_tables(analysis: Analysis) -> Iterator[Table]:
    """Yield tables of percentiles of single operations, if these were measured; a row per size and arm."""
    run = analysis.run
    if run is None:
        return
    groups: dict[tuple[Case, Timing], list[Samples]] = {}
    samples = run.samples
    for line in samples.take(~samples.per_iteration.equals(None) & ~samples.arm.map(is_twin)).lines():
        groups.setdefault((line.case.kind, line.timing), []).append(line)
    for (case, timing), lines in groups.items():
        lines.sort(key=lambda line: line.case.size_bytes)
        placements = {line.placement for line in lines}
        differ = len(placements) > 1
        columns = [
            column("size", ("size",), [format_size(line.case.size_bytes) for line in lines]),
            column("arm", ("arm",), [_arm_of(line, differ) for line in lines], left=True),
        ]
        for key in ("min", "p50", "p90", "p99", "max", "cost"):
            values = [getattr(line.per_iteration, f"{key}_us") for line in lines]
            if any(value is not None for value in values):
                columns.append(column(key, (key,), list(map(microseconds, values))))
        cost = ", and the column cost shows what they add to each operation" if columns[-1].name == "cost" else ""
        yield Table(
            title=f"{case_name(case, placements)}, {counted(run.world_size, 'rank')}, {timing} single operations (us)",
            notes=_notes(run, f"The events between operations are part of these times{cost}."),
            columns=tuple(columns),
            keep=len(columns),
        )


def _arm_of(line: Samples, placements_differ: bool) -> str:
    return with_notes(line.arm, line.placement) if placements_differ else line.arm


def _cell_of(row: Row) -> tuple[int, str]:
    return (row.size_bytes or 0, row.arm or "")


def _notes(run: Run, *notes: str) -> tuple[str, ...]:
    return (*notes, *figures_notices([run.device]))


def _table(
    run: Run,
    title: str,
    notes: tuple[str, ...],
    cells: _Cells,
    units: tuple[str, str],
    pair: Callable[[Row], tuple[str, str]],
) -> Table:
    sizes = sorted({size for size, _ in cells})
    present = {arm for _, arm in cells if not arm.endswith(TWIN_SUFFIX)}
    arms = [arm for arm in dict.fromkeys((*run.arms, *sorted(present))) if arm in present]
    columns = [column("size", ("size",), [format_size(size) for size in sizes])]
    differ = len({row.arm_placement for row in cells.values() if row.arm_placement}) > 1
    columns += [_arm_column(run, arm, [cells.get((size, arm)) for size in sizes], units, pair, differ) for arm in arms]
    return Table(title=title, notes=_notes(run, *notes), columns=tuple(columns), keep=2)


def _arm_column(
    run: Run,
    arm: str,
    rows: list[Row | None],
    units: tuple[str, str],
    pair: Callable[[Row], tuple[str, str]],
    placements_differ: bool,
) -> Column:
    """Return the column of ``arm``: two numbers in each cell, or one number if no row has a second number.

    If the arms of the table differ in their placements, the header names the placement of this arm.
    """
    values = [pair(row) if row is not None else ("", "") for row in rows]
    if not any(second for _, second in values):
        units = ("baseline" if arm == run.baseline and units[1] == "ratio" else units[0], "")
    unit, *texts = pairs([units, *values])
    texts = [(row and _mark(row)) or text for row, text in zip(rows, texts, strict=True)]
    placements = dict.fromkeys(row.arm_placement for row in rows if row and row.arm_placement)
    own = [f"({placement})" for placement in placements] if placements_differ else []
    return column(arm, (*fold(arm, max(map(len, (unit, *own, *texts)))), *own, unit), texts)


def _mark(row: Row) -> str:
    """Return the text to show instead of numbers, if a result is wrong or has no numbers; otherwise an empty text."""
    if row.status == Status.WRONG:
        return "WRONG" if row.wrong is None else f"WRONG ({row.wrong})"
    if row.status == Status.OK:
        return DISCARDED if row.time_us is None else ""
    if row.status == Status.DECLINED:
        return row.status  # in small letters, because it is no failure
    if row.status == Hang.kind:
        return hang_word(row.scenario)
    return str(row.status).upper()


def _latency(row: Row) -> tuple[str, str]:
    return microseconds(row.time_us), "" if row.ratio is None else format_ratio(row.ratio)


def _bandwidth(row: Row) -> tuple[str, str]:
    if row.algbw_gb_s is None or row.busbw_gb_s is None:
        return "", ""
    return bandwidth(row.algbw_gb_s), bandwidth(row.busbw_gb_s)
