"""The summary of a run: a table with one row per case, arm and timing.

Times are medians, because one bad sample can spoil a mean. A ratio compares times of one round, because the speed
of a machine drifts. Within minutes, the speed can change by more than the difference between two arms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import geometric_mean, median, quantiles
from typing import TYPE_CHECKING, Any

from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.joined_launches import join_launches
from nccl_bench.analysis.one_run import median_ratios
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.records.run import Run
from nccl_bench.records.schema import GpuState, Samples, Skipped

if TYPE_CHECKING:
    import pandas as pd


def _column(*, help: str) -> Any:
    return field(default=None, metadata={"help": help})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the summary; a value that was not measured or does not apply is ``None``, never 0."""

    scenario: str | None = _column(help="the scenario around the collective")
    collective: str | None = _column(help="the collective")
    dtype: str | None = _column(help="data type of the elements")
    redop: str | None = _column(help="reduction; absent if nothing is reduced")
    placement: str | None = _column(help="placement of the case: in-place, out-of-place or returned")
    root: int | None = _column(help="root rank; absent if there is none")
    size_bytes: int | None = _column(help="message size as nccl-tests counts it")
    count: int | None = _column(help="elements of one block, as nccl-tests counts them")
    world_size: int | None = _column(help="number of ranks")
    arm: str | None = _column(help="the arm; absent for a skipped case")
    arm_placement: str | None = _column(help="placement in which the arm was called; absent without times of the arm")
    timing: str | None = _column(help=f"{', '.join(Timing)}; absent if the case was skipped, hung or crashed")
    status: str | None = _column(help="ok, wrong, declined, skipped, hang or crash")
    reason: str | None = _column(help="how the arm declined the case, or why the case was skipped")
    ops_per_batch: int | None = _column(help="operations in one timed batch")
    launches: int | None = _column(help="number of launches with a time; absent if there is no time")
    rounds: int | None = _column(help="number of rounds with a time, in all launches together")
    discarded: int | None = _column(help="batches discarded because the gate opened before all calls were queued")
    time_us: float | None = _column(help="time per operation, maximum over ranks: median over rounds")
    min_us: float | None = _column(help="time per operation: minimum over rounds")
    max_us: float | None = _column(help="time per operation: maximum over rounds")
    q1_us: float | None = _column(help="time per operation: first quartile over rounds")
    q3_us: float | None = _column(help="time per operation: third quartile over rounds")
    algbw_gb_s: float | None = _column(
        help="size / time, 10^9 bytes per second; absent for a timing that moves no bytes, such as enqueue"
    )
    busbw_gb_s: float | None = _column(help="algbw times the collective's bus factor")
    baseline: str | None = _column(help="the arm whose time is the denominator of ratio")
    ratio: float | None = _column(
        help="time / baseline's time in the same round: median, of several launches the geometric mean of their "
        "medians; absent for the baseline"
    )
    ratio_low: float | None = _column(
        help="lower end of the ratio's interval; absent if there are too few rounds for an interval"
    )
    ratio_high: float | None = _column(help="upper end of the ratio's interval")
    verdict: str | None = _column(
        help="faster, slower, equivalent or inconclusive; with 95 % confidence no verdict of a run is wrong"
    )
    noise_floor: float | None = _column(help="the noise floor; only a larger difference can be faster or slower")
    registered: str | None = _column(
        help="whether NCCL had the buffers registered: yes, no, partly or unknown; absent without NCCL"
    )
    communicator_variance: float | None = _column(
        help="standard deviation of the ratio from launch to launch, as a share; absent with one launch"
    )
    wrong: int | None = _column(help="wrong elements, over all ranks and checks; absent if nothing was checked")
    tolerance_ulp: int | None = _column(help="the error that the check allows, in ulp; 0 means equality")
    rank_spread_us: float | None = _column(help="slowest rank's time minus fastest rank's: median over rounds")
    slowest_rank: int | None = _column(help="the rank that was slowest in most rounds")
    slowest_rank_share: float | None = _column(help="the share of rounds in which slowest_rank was slowest")
    p50_us: float | None = _column(
        help="single operations, with events between them: median; only with --per-iteration"
    )
    p90_us: float | None = _column(help="single operations, with events between them: 90th percentile")
    p99_us: float | None = _column(help="single operations, with events between them: 99th percentile")
    per_iteration_cost_us: float | None = _column(help="time that events add to an operation; p50 to p99 include it")

    sm_clock_mhz: int | None = _column(help="lowest SM clock of a GPU, right after the timing; absent without GPUs")
    memory_clock_mhz: int | None = _column(help="lowest memory clock of a GPU")
    temperature_c: int | None = _column(help="highest temperature of a GPU, degrees Celsius")
    power_w: float | None = _column(help="highest power of a GPU; recent GPUs report the average over a second")
    throttled: str | None = _column(help="the reasons that lowered the clocks of a GPU during the timing; absent: none")
    throttled_share: float | None = _column(
        help="largest share of the time for which a GPU was throttled; absent if the driver does not count the time"
    )
    throttled_rank: int | None = _column(help="the lowest rank whose GPU was throttled")
    other_process: int | None = _column(help="id of a process that is not of this run and had a GPU of the run open")
    other_process_rank: int | None = _column(help="the lowest rank with such a process on its GPU")

    def present(self) -> dict[str, object]:
        """Return the columns that have a value."""
        return {name: value for name, value in asdict(self).items() if value is not None}


# The meaning of each column of summary.csv, in order.
COLUMNS: Mapping[str, str] = {column.name: column.metadata["help"] for column in fields(Row)}
_OF_GPUS = tuple(column.name for column in fields(GpuState) if column.name in COLUMNS)
_CASE = tuple(column.name for column in fields(Case))
# Int64 columns can have absent values. With int64, one absent value would turn the column into floats (4.0, 8.0).
_PANDAS_TYPES = {"str | None": "string", "int | None": "Int64", "float | None": "float64"}


def rows_of(run: Run, comparisons: Iterable[Comparison] = ()) -> tuple[Row, ...]:
    """Return a row for each record of ``run``, in the order of measurement; the launches of a cell share a row.

    Intervals, verdicts and noise floors come from ``comparisons``, which compare the arms of this run.
    """
    compared = {(each.case, each.timing, each.candidate): each for each in comparisons}
    launches = ComparableRun.of(run, run.meta["name"]).launches()
    rows: list[Row] = []
    skipped: set[Row] = set()
    for line in join_launches(run).lines:
        if isinstance(line, Samples):
            point = (line.case, line.timing)
            ratios = [] if line.arm == run.baseline else median_ratios(launches, point, line.arm, run.baseline)
            measured = sum((*point, line.arm) in each.cells for each in launches)
            rows.append(_measured(line, measured, run.baseline, ratios, compared.get((*point, line.arm))))
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

    types = {column.name: _PANDAS_TYPES[str(column.type)] for column in fields(Row)}
    return pd.DataFrame([asdict(row) for row in rows], columns=list(COLUMNS)).astype(types)


def _columns_of(case: Case | None) -> dict[str, Any]:
    # `asdict` would be slower, because it makes deep copies of all values.
    return {name: getattr(case, name) for name in _CASE} if case else {}


def _measured(
    line: Samples, launches: int, baseline: str, ratios: Sequence[float], comparison: Comparison | None
) -> Row:
    """Return the row of ``line``. ``ratios`` are the medians of its ``launches``."""
    case = line.case
    times: dict[str, Any] = {}
    if line.samples_us:
        time_us = median(line.samples_us)
        q1_us, q3_us = _quartiles(line.samples_us)
        times = {
            "time_us": time_us,
            "min_us": min(line.samples_us),
            "max_us": max(line.samples_us),
            "q1_us": q1_us,
            "q3_us": q3_us,
        }
        if line.slowest_rank:
            spread = zip(line.samples_us, line.fastest_rank_us, strict=True)
            times["rank_spread_us"] = median(most - least for most, least in spread)
            times["slowest_rank"], times["slowest_rank_share"] = _most_frequent(line.slowest_rank)
        if TIMINGS[line.timing].moves_bytes:
            times["algbw_gb_s"] = case.row.algbw_gb_s(case.size_bytes, time_us)
            times["busbw_gb_s"] = case.row.busbw_gb_s(case.size_bytes, time_us, line.world_size)
    if line.per_iteration is not None:
        times |= {name: getattr(line.per_iteration, name) for name in ("p50_us", "p90_us", "p99_us")}
        times["per_iteration_cost_us"] = line.per_iteration.cost_us
    if line.gpus is not None:
        times |= {name: getattr(line.gpus, name) for name in _OF_GPUS}
        times["throttled"] = ", ".join(line.gpus.lowering_reasons) or None
    judged: dict[str, Any] = {}
    if comparison is not None:
        judged = {
            "verdict": comparison.verdict,
            "noise_floor": comparison.noise_floor,
            "communicator_variance": comparison.communicator_variance,
        }
        if comparison.interval is not None:
            judged |= {"ratio_low": comparison.interval.low, "ratio_high": comparison.interval.high}
    return Row(
        **_columns_of(case),
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
        # A twin has a ratio, but no comparison.
        ratio=geometric_mean(ratios) if ratios else None,
        registered=line.registered,
        wrong=line.wrong,
        tolerance_ulp=None if line.wrong is None else line.tolerance_ulp,
        **times,
        **judged,
    )


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = quantiles(values, n=4, method="inclusive")
    return first, third


def _most_frequent(ranks: Sequence[int]) -> tuple[int, float]:
    rank, times = min(Counter(ranks).items(), key=lambda item: (-item[1], item[0]))
    return rank, times / len(ranks)
