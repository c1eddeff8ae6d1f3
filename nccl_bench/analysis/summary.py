"""The summary of a run: a table with one row per case, arm and timing.

Times are medians, because one bad sample can spoil a mean. A ratio compares times of one round, because the speed
of a machine drifts. Within minutes, the speed can change by more than the difference between two arms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import lru_cache
from statistics import geometric_mean
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.joined_launches import join_launches
from nccl_bench.analysis.one_run import median_ratios
from nccl_bench.analysis.spread import Spread, spreads_of
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.records.run import Run
from nccl_bench.records.schema import GpuState, Samples, Skipped

if TYPE_CHECKING:
    import pandas as pd


# No dataclass: a run can have a million rows, and msgspec makes one in a third of the time and without the collector.
class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A row of the summary; a value that was not measured or does not apply is ``None``, never 0."""

    scenario: Annotated[str | None, Meta(description="the scenario around the collective")] = None
    collective: Annotated[str | None, Meta(description="the collective")] = None
    dtype: Annotated[str | None, Meta(description="data type of the elements")] = None
    redop: Annotated[str | None, Meta(description="reduction; absent if nothing is reduced")] = None
    placement: Annotated[str | None, Meta(description="placement of the case: in-place, out-of-place or returned")] = (
        None
    )
    root: Annotated[int | None, Meta(description="root rank; absent if there is none")] = None
    size_bytes: Annotated[int | None, Meta(description="message size as nccl-tests counts it")] = None
    count: Annotated[int | None, Meta(description="elements of one block, as nccl-tests counts them")] = None
    world_size: Annotated[int | None, Meta(description="number of ranks")] = None
    arm: Annotated[str | None, Meta(description="the arm; absent for a skipped case")] = None
    arm_placement: Annotated[
        str | None, Meta(description="placement in which the arm was called; absent without times of the arm")
    ] = None
    timing: Annotated[
        str | None, Meta(description=f"{', '.join(Timing)}; absent if the case was skipped, hung or crashed")
    ] = None
    status: Annotated[str | None, Meta(description="ok, wrong, declined, skipped, hang or crash")] = None
    reason: Annotated[str | None, Meta(description="how the arm declined the case, or why the case was skipped")] = None
    ops_per_batch: Annotated[int | None, Meta(description="operations in one timed batch")] = None
    launches: Annotated[int | None, Meta(description="number of launches with a time; absent if there is no time")] = (
        None
    )
    rounds: Annotated[int | None, Meta(description="number of rounds with a time, in all launches together")] = None
    discarded: Annotated[
        int | None, Meta(description="batches discarded because the gate opened before all calls were queued")
    ] = None
    time_us: Annotated[float | None, Meta(description="time per operation, maximum over ranks: median over rounds")] = (
        None
    )
    min_us: Annotated[float | None, Meta(description="time per operation: minimum over rounds")] = None
    max_us: Annotated[float | None, Meta(description="time per operation: maximum over rounds")] = None
    q1_us: Annotated[float | None, Meta(description="time per operation: first quartile over rounds")] = None
    q3_us: Annotated[float | None, Meta(description="time per operation: third quartile over rounds")] = None
    algbw_gb_s: Annotated[
        float | None,
        Meta(
            description="size / time, 10^9 bytes per second; absent for a timing that moves no bytes, such as enqueue"
        ),
    ] = None
    busbw_gb_s: Annotated[float | None, Meta(description="algbw times the collective's bus factor")] = None
    baseline: Annotated[str | None, Meta(description="the arm whose time is the denominator of ratio")] = None
    ratio: Annotated[
        float | None,
        Meta(
            description="time / baseline's time in the same round: median, of several launches the geometric mean of "
            "their medians; absent for the baseline"
        ),
    ] = None
    ratio_low: Annotated[
        float | None,
        Meta(description="lower end of the ratio's interval; absent if there are too few rounds for an interval"),
    ] = None
    ratio_high: Annotated[float | None, Meta(description="upper end of the ratio's interval")] = None
    verdict: Annotated[
        str | None,
        Meta(
            description="faster, slower, equivalent or inconclusive; with 95 % confidence no verdict of a run is wrong"
        ),
    ] = None
    noise_floor: Annotated[
        float | None, Meta(description="the noise floor; only a larger difference can be faster or slower")
    ] = None
    registered: Annotated[
        str | None,
        Meta(description="whether NCCL had the buffers registered: yes, no, partly or unknown; absent without NCCL"),
    ] = None
    communicator_variance: Annotated[
        float | None,
        Meta(description="standard deviation of the ratio from launch to launch, as a share; absent with one launch"),
    ] = None
    wrong: Annotated[
        int | None, Meta(description="wrong elements, over all ranks and checks; absent if nothing was checked")
    ] = None
    tolerance_ulp: Annotated[
        int | None, Meta(description="the error that the check allows, in ulp; 0 means equality")
    ] = None
    rank_spread_us: Annotated[
        float | None, Meta(description="slowest rank's time minus fastest rank's: median over rounds")
    ] = None
    slowest_rank: Annotated[int | None, Meta(description="the rank that was slowest in most rounds")] = None
    slowest_rank_share: Annotated[
        float | None, Meta(description="the share of rounds in which slowest_rank was slowest")
    ] = None
    p50_us: Annotated[
        float | None, Meta(description="single operations, with events between them: median; only with --per-iteration")
    ] = None
    p90_us: Annotated[
        float | None, Meta(description="single operations, with events between them: 90th percentile")
    ] = None
    p99_us: Annotated[
        float | None, Meta(description="single operations, with events between them: 99th percentile")
    ] = None
    per_iteration_cost_us: Annotated[
        float | None, Meta(description="time that events add to an operation; p50 to p99 include it")
    ] = None

    sm_clock_mhz: Annotated[
        int | None, Meta(description="lowest SM clock of a GPU, right after the timing; absent without GPUs")
    ] = None
    memory_clock_mhz: Annotated[int | None, Meta(description="lowest memory clock of a GPU")] = None
    temperature_c: Annotated[int | None, Meta(description="highest temperature of a GPU, degrees Celsius")] = None
    power_w: Annotated[
        float | None, Meta(description="highest power of a GPU; recent GPUs report the average over a second")
    ] = None
    throttled: Annotated[
        str | None, Meta(description="the reasons that lowered the clocks of a GPU during the timing; absent: none")
    ] = None
    throttled_share: Annotated[
        float | None,
        Meta(
            description="largest share of the time for which a GPU was throttled; absent if the driver does not count "
            "the time"
        ),
    ] = None
    throttled_rank: Annotated[int | None, Meta(description="the lowest rank whose GPU was throttled")] = None
    other_process: Annotated[
        int | None, Meta(description="id of a process that is not of this run and had a GPU of the run open")
    ] = None
    other_process_rank: Annotated[int | None, Meta(description="the lowest rank with such a process on its GPU")] = None

    def present(self) -> dict[str, object]:
        """Return the columns that have a value."""
        # `asdict` would be slower, because it makes deep copies of all values.
        return {name: value for name in COLUMNS if (value := getattr(self, name)) is not None}


_HINTS: Mapping[str, Any] = get_type_hints(Row, include_extras=True)
# The meaning of each column of summary.csv, in order.
COLUMNS: Mapping[str, str] = {name: hint.__metadata__[0].description for name, hint in _HINTS.items()}
_OF_GPUS = tuple(column.name for column in fields(GpuState) if column.name in COLUMNS)
_CASE = tuple(column.name for column in fields(Case))
# Int64 columns can have absent values. With int64, one absent value would turn the column into floats (4.0, 8.0).
_PANDAS_TYPES: Mapping[Any, Literal["string", "Int64", "float64"]] = {
    str | None: "string",
    int | None: "Int64",
    float | None: "float64",
}


def rows_of(
    run: Run, comparisons: Iterable[Comparison] = (), comparable: ComparableRun | None = None
) -> tuple[Row, ...]:
    """Return a row for each record of ``run``, in the order of measurement; the launches of a cell share a row.

    Intervals, verdicts and noise floors come from ``comparisons``, which compare the arms of this run. ``comparable``
    has the times of ``run``.
    """
    compared = {(each.case, each.timing, each.candidate): each for each in comparisons}
    launches = (comparable or ComparableRun.of(run, run.meta["name"])).launches()
    cells_of_launches = [each.cells for each in launches]
    baseline = run.baseline
    rows: list[Row] = []
    skipped: set[Row] = set()
    lines = join_launches(run).lines
    for line, spread in zip(lines, spreads_of(lines), strict=True):
        if isinstance(line, Samples):
            point = (line.case, line.timing)
            cell = (*point, line.arm)
            comparison = compared.get(cell)
            ratio = None
            if comparison is not None:
                ratio = comparison.ratio
            # A twin has a ratio, but no comparison.
            elif line.arm != baseline:
                ratios = median_ratios(launches, point, line.arm, baseline)
                ratio = geometric_mean(ratios) if ratios else None
            measured = sum([cell in cells for cells in cells_of_launches])
            rows.append(_measured(line, spread, measured, baseline, ratio, comparison))
        else:
            arm, reason = (None, line.reason) if isinstance(line, Skipped) else (line.arm, None)
            case = _columns_of(line.case)
            row = Row(**case, world_size=run.world_size, arm=arm, status=line.kind, reason=reason)
            # A case that does not fit into memory is skipped in every launch.
            if row not in skipped:
                rows.append(row)
            if isinstance(line, Skipped):
                skipped.add(row)
    return tuple(rows)


def data_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Return ``rows`` as a frame with the columns of ``COLUMNS``; absent values are ``NaN`` or ``pandas.NA``."""
    import pandas as pd

    # Column by column, which is faster than row by row.
    rows = list(rows)
    return pd.DataFrame(
        {
            name: pd.Series([getattr(row, name) for row in rows], dtype=_PANDAS_TYPES[hint.__origin__])
            for name, hint in _HINTS.items()
        }
    )


# The lines of a case follow each other.
@lru_cache(maxsize=1)
def _columns_of(case: Case | None) -> dict[str, Any]:
    return {name: getattr(case, name) for name in _CASE} if case else {}


# The lines of a case and timing have the same state of the GPUs.
@lru_cache(maxsize=1)
def _columns_of_gpus(state: GpuState) -> dict[str, Any]:
    return {
        **{name: getattr(state, name) for name in _OF_GPUS},
        "throttled": ", ".join(state.lowering_reasons) or None,
    }


def _measured(
    line: Samples,
    spread: Spread | None,
    launches: int,
    baseline: str,
    ratio: float | None,
    comparison: Comparison | None,
) -> Row:
    """Return the row of ``line``, which holds the times of all its ``launches``; ``spread`` describes these times."""
    case = line.case
    columns = {**_columns_of(case), **(_columns_of_gpus(line.gpus) if line.gpus is not None else {})}
    if spread is not None:
        columns.update(zip(Spread._fields, spread, strict=True))
        if TIMINGS[line.timing].moves_bytes:
            columns["algbw_gb_s"] = case.row.algbw_gb_s(case.size_bytes, spread.time_us)
            columns["busbw_gb_s"] = case.row.busbw_gb_s(case.size_bytes, spread.time_us, line.world_size)
    if line.per_iteration is not None:
        columns |= {name: getattr(line.per_iteration, name) for name in ("p50_us", "p90_us", "p99_us")}
        columns["per_iteration_cost_us"] = line.per_iteration.cost_us
    if comparison is not None:
        columns["verdict"] = comparison.verdict
        columns["noise_floor"] = comparison.noise_floor
        columns["communicator_variance"] = comparison.communicator_variance
        if comparison.interval is not None:
            columns["ratio_low"] = comparison.interval.low
            columns["ratio_high"] = comparison.interval.high
    return Row(
        world_size=line.world_size,
        arm=line.arm,
        arm_placement=line.placement,
        timing=line.timing,
        status=line.status,
        reason=line.reason,
        # If nothing was timed, the next three numbers are absent, not 0.
        ops_per_batch=line.ops_per_batch or None,
        launches=launches or None,
        rounds=len(line.rounds) if line.ops_per_batch else None,
        discarded=line.discarded if line.ops_per_batch else None,
        baseline=baseline,
        ratio=ratio,
        registered=line.registered,
        wrong=line.wrong,
        tolerance_ulp=None if line.wrong is None else line.tolerance_ulp,
        **columns,
    )
