"""From lines to a tidy table: one row per case, arm and timing.

Medians, because a mean follows its worst sample; ratios within rounds, because arms measured minutes apart drift by
more than the effect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from nccl_bench.analysis.comparison import Compared, of_run
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import TIMINGS
from nccl_bench.errors import ExitCode
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Line, Samples, Skipped, Status

if TYPE_CHECKING:
    import pandas as pd


def _column(meaning: str) -> Any:
    return field(default=None, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the summary; ``None`` is what was not measured or does not apply, and never 0."""

    scenario: str | None = _column("what surrounds the collective")
    collective: str | None = _column("the collective")
    dtype: str | None = _column("data type of the elements")
    redop: str | None = _column("reduction; absent where nothing is reduced")
    placement: str | None = _column("in-place or out-of-place")
    root: int | None = _column("root rank; absent where there is none")
    size_bytes: int | None = _column("message size as nccl-tests counts it")
    count: int | None = _column("elements of one block, as nccl-tests counts them")
    world_size: int | None = _column("number of ranks")
    arm: str | None = _column("the arm; absent for a skipped case")
    timing: str | None = _column("eager, gated, graph or enqueue; absent for a case that was skipped, hung or crashed")
    status: str | None = _column("ok, wrong, skipped, hang or crash")
    ops_per_batch: int | None = _column("operations in one timed batch")
    rounds: int | None = _column("rounds kept")
    discarded: int | None = _column("batches thrown away because the gate opened before all calls were queued")
    time_us: float | None = _column("time per operation, maximum over ranks: median over rounds")
    min_us: float | None = _column("its minimum over rounds")
    max_us: float | None = _column("its maximum over rounds")
    q1_us: float | None = _column("its first quartile")
    q3_us: float | None = _column("its third quartile")
    algbw_gb_s: float | None = _column("size / time, 10^9 bytes per second; absent for enqueue, which moves no bytes")
    busbw_gb_s: float | None = _column("algbw times the collective's bus factor")
    baseline: str | None = _column("the arm that ratio compares with")
    ratio: float | None = _column("time / baseline's time of the same round: median; absent for the baseline")
    ratio_low: float | None = _column(
        "lower end of the ratio's interval; absent where there are too few rounds for one"
    )
    ratio_high: float | None = _column("its upper end")
    verdict: str | None = _column("faster, slower, equivalent or inconclusive, all of a run together 95 % sure")
    noise_floor: float | None = _column("how far from 1 the baseline's twin may be; smaller effects have no verdict")
    wrong: int | None = _column("wrong elements over all ranks and checks; absent where nothing was checked")
    tolerance_ulp: int | None = _column("what the check allows; 0 is equality")
    rank_spread_us: float | None = _column("slowest minus fastest rank: median over rounds")
    slowest_rank: int | None = _column("the rank that was slowest in most rounds")
    slowest_rank_share: float | None = _column("the share of rounds in which it was")
    p50_us: float | None = _column("median over single operations, events between them; only with --per-iteration")
    p90_us: float | None = _column("their 90th percentile")
    p99_us: float | None = _column("their 99th percentile")
    per_iteration_cost_us: float | None = _column("what those events add to each operation; contained in p50 to p99")

    def present(self) -> dict[str, object]:
        """The columns that have a value."""
        return {name: value for name, value in asdict(self).items() if value is not None}


# The columns of summary.csv, in order, and what each means.
COLUMNS: Mapping[str, str] = {column.name: column.metadata["meaning"] for column in fields(Row)}
_CASE = tuple(column.name for column in fields(Case))
# With a plain int64 an absent cell would turn the whole column into 4.0, 8.0, ...; with these it stays empty.
_PANDAS_TYPES = {"str | None": "string", "int | None": "Int64", "float | None": "float64"}


def summary_rows(run: Run) -> list[Row]:
    """The rows of ``run``, in the order measured."""
    compared = {(one.case, one.timing, one.candidate): one for one in of_run(run)}
    return [
        _judged(row, compared.get((line.case, line.timing, line.arm))) if isinstance(line, Samples) else row
        for line, row in zip(run.lines, measured_rows(run), strict=True)
    ]


def measured_rows(run: Run) -> list[Row]:
    """The same without intervals and verdicts, which take as long again in a run of many cells."""
    baseline = {
        (line.case, line.timing): dict(zip(line.rounds, line.samples_us, strict=True))
        for line in run.lines
        if isinstance(line, Samples) and line.arm == run.baseline and line.status is Status.OK
    }
    rows = []
    for line in run.lines:
        if isinstance(line, Samples):
            rows.append(_measured(line, run.baseline, baseline.get((line.case, line.timing), {})))
        else:
            arm = None if isinstance(line, Skipped) else line.arm
            rows.append(Row(**_columns_of(line.case), world_size=run.world_size, arm=arm, status=line.kind))
    return rows


def summarize(run: Run) -> pd.DataFrame:
    """The same as a frame with the columns of ``COLUMNS``; what is absent is ``NaN`` or ``pandas.NA``."""
    import pandas as pd

    types = {column.name: _PANDAS_TYPES[str(column.type)] for column in fields(Row)}
    return pd.DataFrame([asdict(row) for row in summary_rows(run)], columns=list(COLUMNS)).astype(types)


def failures(lines: Iterable[Line]) -> ExitCode:
    """The exit code a run has earned: wrong results weigh more than a hang, and that more than a crash.

    Without any of them it is a success only if there are figures: some, and of every cell that was measured.
    """
    lines = list(lines)
    measured = [line for line in lines if isinstance(line, Samples)]
    if any(line.status is Status.WRONG for line in measured):
        return ExitCode.WRONG_RESULT
    if any(isinstance(line, Hang) for line in lines):
        return ExitCode.HANG
    if any(isinstance(line, Crash) for line in lines) or not measured:
        return ExitCode.SETUP
    return ExitCode.OK if all(line.samples_us for line in measured) else ExitCode.SETUP


def _columns_of(case: Case | None) -> dict[str, Any]:
    """``case`` by column; not by ``asdict``, which copies every value in depth."""
    return {name: getattr(case, name) for name in _CASE} if case else {}


def _measured(line: Samples, baseline: str, baseline_us: Mapping[int, float]) -> Row:
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
    return Row(
        **_columns_of(case),
        world_size=line.world_size,
        arm=line.arm,
        timing=line.timing,
        status=line.status,
        # All three are 0 where the outputs were wrong, so nothing was timed.
        ops_per_batch=line.ops_per_batch or None,
        rounds=len(line.rounds) if line.ops_per_batch else None,
        discarded=line.discarded if line.ops_per_batch else None,
        baseline=baseline,
        ratio=_ratio(line, baseline, baseline_us),
        wrong=line.wrong,
        tolerance_ulp=None if line.wrong is None else line.tolerance_ulp,
        **times,
    )


def _judged(row: Row, found: Compared | None) -> Row:
    if found is None:
        return row
    interval = found.comparison.interval
    return replace(
        row,
        ratio_low=interval.low if interval else None,
        ratio_high=interval.high if interval else None,
        verdict=found.verdict,
        noise_floor=found.floor,
    )


def _ratio(line: Samples, baseline: str, baseline_us: Mapping[int, float]) -> float | None:
    """Absent for the baseline, for wrong results, which may be fast, and where no round has both."""
    if line.arm == baseline or line.status is not Status.OK:
        return None
    times = zip(line.rounds, line.samples_us, strict=True)
    ratios = [time_us / baseline_us[number] for number, time_us in times if number in baseline_us]
    return median(ratios) if ratios else None


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = quantiles(values, n=4, method="inclusive")
    return first, third


def _most_frequent(ranks: Sequence[int]) -> tuple[int, float]:
    rank, times = min(Counter(ranks).items(), key=lambda item: (-item[1], item[0]))
    return rank, times / len(ranks)
