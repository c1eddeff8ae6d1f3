"""The charts that show whether the machine was steady: rounds, the spread between ranks, clocks of the GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.rounds import RoundTimes, round_times
from nccl_bench.analysis.summary import Row
from nccl_bench.analysis.wording import size_with_unit
from nccl_bench.catalog.timings import Timing
from nccl_bench.report.charts.chart import Chart, ChartLine, Scale, Value, same_range
from nccl_bench.report.charts.kinds import CasesOfKind, ChartArm, arms_of, kind_of, pair_name, sizes_of, timing_style

# The part of the space of a case that its rounds fill. The rest parts it from the next case.
_FILLED = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnRun:
    """The rounds of a run, and its arms that are drawn."""

    side: str  # the name of the run's side; empty if there is only one run
    rounds: tuple[RoundTimes, ...]  # the times, in the order of measurement
    arms: Mapping[str, ChartArm]  # the arm -> what switches it on and off, and its style


def drawn_runs(analysis: Analysis, most: int) -> list[DrawnRun]:
    """Return the rounds of each run with the arms that are drawn; of all runs together, about ``most`` times."""
    drawn = arms_of(analysis)
    runs = []
    for side, run in analysis.runs:
        if analysis.run is not None:
            arms = drawn
        else:
            # The labels of sides are those of `Analysis.sides`, with a number if a side has several runs.
            parts = [number for number, name in enumerate(analysis.sides) if not side or side.startswith(name)]
            arms = {
                (each.baseline, each.candidate)[part]: _with_style(drawn[pair_name(each, analysis)], part, len(drawn))
                for each in analysis.comparisons
                for part in parts
            }
        times = round_times(run.lines, arms, most // len(analysis.runs))
        runs.append(DrawnRun(side=side, rounds=times, arms=arms))
    return runs


def _with_style(pair: ChartArm, part: int, pairs: int) -> ChartArm:
    """Return the arm of one part of a pair: its baseline has the style of a baseline if there is only one pair."""
    return replace(pair, style=0) if part == 0 and pairs == 1 else pair


def round_charts(cases: CasesOfKind, runs: Sequence[DrawnRun]) -> list[Chart]:
    """Return the time of each round in the order of measurement, for each timing and run."""
    charts: list[Chart] = []
    for timing in Timing:
        of_timing: list[Chart] = []
        for run in runs:
            rounds = [each for each in run.rounds if each.timing is timing and kind_of(each.case) == cases.kind]
            of_timing += _round_chart(run, timing, rounds)
        charts += same_range(of_timing)
    return charts


def _round_chart(run: DrawnRun, timing: Timing, rounds: Sequence[RoundTimes]) -> Iterator[Chart]:
    positions = tuple(
        round(number + _FILLED * at / each.count, 4) for number, each in enumerate(rounds) for at in each.positions
    )
    lines = []
    for name, arm in run.arms.items():
        values = tuple(time for each in rounds for time in each.times_us.get(name, (None,) * len(each.positions)))
        if any(value is not None for value in values):
            lines.append(ChartLine(arm=arm.name, label=name, style=arm.style, values=values))
    if lines:
        yield Chart(
            title=f"{timing}, {run.side}" if run.side else timing,
            x_label="rounds, size after size, in the order of measurement",
            x_scale=Scale.MARKS,
            positions=positions,
            marks=tuple((number, size_with_unit(each.case.size_bytes)) for number, each in enumerate(rounds)),
            y_label="us a call",
            y_scale=Scale.LOG,
            lines=tuple(lines),
            points_only=True,
        )


def spread_charts(cases: CasesOfKind) -> list[Chart]:
    """Return the slowest rank's time minus the fastest rank's, as a share of the time, for each timing."""
    charts = []
    for timing in Timing:
        rows = cases.rows.get(timing, {})
        sizes = sizes_of(rows)
        lines = [
            ChartLine(
                arm=name,
                label=name,
                style=arm.style,
                values=tuple(_spread(rows[name][size]) if size in rows[name] else None for size in sizes),
            )
            for name, arm in cases.arms.items()
            if name in rows
        ]
        if any(value is not None for line in lines for value in line.values):
            charts.append(
                Chart(
                    title=timing,
                    x_label="message size",
                    x_scale=Scale.SIZE,
                    positions=tuple(sizes),
                    y_label="difference between the ranks, % of the time",
                    y_scale=Scale.LINEAR,
                    y_range=(0, 5),
                    lines=tuple(lines),
                )
            )
    return charts


# The title of a chart of sensors, the unit, and the column of the summary.
_SENSORS: Sequence[tuple[str, str, Callable[[Row], Value]]] = (
    ("SM clock, lowest of all GPUs", "MHz", lambda row: row.sm_clock_mhz),
    ("temperature, highest of all GPUs", "degrees Celsius", lambda row: row.temperature_c),
    ("power, highest of all GPUs", "W", lambda row: row.power_w),
)


def sensor_charts(cases: CasesOfKind) -> list[Chart]:
    """Return what the GPUs' sensors showed after each timing of each size; nothing if nothing was recorded."""
    charts = []
    for title, unit, choose in _SENSORS:
        # All arms of a case and timing were measured together, and have one reading.
        readings = {
            timing: {size: row for arm in arms.values() for size, row in arm.items() if choose(row) is not None}
            for timing, arms in cases.rows.items()
        }
        sizes = sizes_of({timing.value: rows for timing, rows in readings.items()})
        if sizes:
            lines = [
                ChartLine(
                    arm="",
                    label=timing,
                    style=timing_style(timing),
                    values=tuple(
                        choose(readings[timing][size]) if size in readings[timing] else None for size in sizes
                    ),
                )
                for timing in Timing
                if readings.get(timing)
            ]
            charts.append(
                Chart(
                    title=title,
                    x_label="message size",
                    x_scale=Scale.SIZE,
                    positions=tuple(sizes),
                    y_label=unit,
                    y_scale=Scale.LINEAR,
                    y_range=(0, 0),
                    lines=tuple(lines),
                )
            )
    return charts


def _spread(row: Row) -> Value:
    if row.rank_spread_us is None or not row.time_us:
        return None
    return 100 * row.rank_spread_us / row.time_us
