"""The charts that show whether the machine was steady: rounds, the spread between ranks, clocks of the GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.rounds import RoundTimes, round_times
from nccl_bench.analysis.wording import size_with_unit
from nccl_bench.catalog.cases import kind_of
from nccl_bench.catalog.timings import Timing
from nccl_bench.report.charts.chart import Chart, ChartLine, Scale, Value, same_range
from nccl_bench.report.charts.kinds import CasesOfKind, DrawnArm, Kind, drawn_arms, sizes_of
from nccl_bench.report.charts.styles import timing_style

# The share of a case's space that its rounds fill. The rest separates the case from the next case.
_FILLED = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnRun:
    """The rounds of a run, and its arms that are drawn."""

    side: str  # the name of the run's side; empty if there is only one run
    # The times by timing and kind of case, in the order of measurement.
    rounds: Mapping[tuple[Timing, Kind], Sequence[RoundTimes]]
    arms: Mapping[str, DrawnArm]  # the drawn arms by the name of the arm


def drawn_runs(analysis: Analysis, most: int) -> list[DrawnRun]:
    """Return the rounds of each run with the drawn arms. All runs together have about ``most`` times."""
    drawn = drawn_arms(analysis)
    runs = []
    for side, run in analysis.runs:
        # If a side has several runs, their names end in a number.
        arms = {each.arm: each for each in drawn if side == each.side or side.startswith(f"{each.side} ")}
        rounds: dict[tuple[Timing, Kind], list[RoundTimes]] = {}
        for each in round_times(run.samples, arms, most // len(analysis.runs)):
            rounds.setdefault((each.timing, kind_of(each.case)), []).append(each)
        runs.append(DrawnRun(side=side, rounds=rounds, arms=arms))
    return runs


def round_charts(cases: CasesOfKind, runs: Sequence[DrawnRun]) -> list[Chart]:
    """Return the time of each round in the order of measurement, for each timing and run."""
    charts: list[Chart] = []
    for timing in Timing:
        of_timing: list[Chart] = []
        for run in runs:
            of_timing += _round_chart(cases, run, timing, run.rounds.get((timing, cases.kind), ()))
        charts += same_range(of_timing)
    return charts


def _round_chart(cases: CasesOfKind, run: DrawnRun, timing: Timing, rounds: Sequence[RoundTimes]) -> Iterator[Chart]:
    positions = tuple(
        round(number + _FILLED * at / each.count, 4) for number, each in enumerate(rounds) for at in each.positions
    )
    lines = []
    for arm, drawn in run.arms.items():
        values = tuple(time for each in rounds for time in each.times_us.get(arm, (None,) * len(each.positions)))
        if any(value is not None for value in values):
            # The title of the chart names the side.
            lines.append(ChartLine(arm=drawn.name, label=arm, style=drawn.style, values=values))
    if lines:
        yield Chart(
            title=f"{timing}, {run.side}" if run.side else timing,
            x_label="rounds, size after size, in the order of measurement",
            x_scale=Scale.MARKS,
            positions=positions,
            marks=tuple((number, size_with_unit(each.case.size_bytes)) for number, each in enumerate(rounds)),
            y_label=cases.times,
            y_scale=Scale.LOG,
            lines=tuple(lines),
            points_only=True,
        )


def spread_charts(cases: CasesOfKind) -> list[Chart]:
    """Return the slowest rank's time minus the fastest rank's, as a share of the time, for each timing."""
    charts = []
    for timing in Timing:
        measured = cases.measured.get(timing, {})
        sizes = sizes_of(measured)
        lines = [
            ChartLine(
                arm=drawn.name,
                label=label,
                style=drawn.style,
                hollow=drawn.hollow,
                values=_spreads(cases, timing, label, sizes),
            )
            for label, drawn in cases.drawn.items()
            if label in measured
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
_SENSORS = (
    ("SM clock, lowest of all GPUs", "MHz", "sm_clock_mhz"),
    ("temperature, highest of all GPUs", "degrees Celsius", "temperature_c"),
    ("power, highest of all GPUs", "W", "power_w"),
)


def sensor_charts(cases: CasesOfKind) -> list[Chart]:
    """Return what the GPUs' sensors showed after each timing of each size; nothing if nothing was recorded."""
    sides = dict.fromkeys(drawn.side for drawn in cases.drawn.values())
    return [
        chart
        for title, unit, column in _SENSORS
        for chart in same_range(
            [chart for side in sides for chart in _sensor_chart(cases, side, title, unit, column)], always=(0,)
        )
    ]


def _sensor_chart(cases: CasesOfKind, side: str, title: str, unit: str, column: str) -> Iterator[Chart]:
    # All arms of a case and timing were measured together, and have one reading.
    readings: dict[Timing, dict[int, Value]] = {
        timing: {
            size: value
            for label, of_arm in arms.items()
            if cases.drawn[label].side == side
            for size, value in zip(of_arm, cases.values(timing, label, [*of_arm], column), strict=True)
        }
        for timing, arms in cases.measured.items()
    }
    sizes = sizes_of({timing.value: of_timing for timing, of_timing in readings.items()})
    lines = [
        ChartLine(arm="", label=timing, style=timing_style(timing), values=tuple(map(readings[timing].get, sizes)))
        for timing in Timing
        if timing in readings
    ]
    if any(value is not None for line in lines for value in line.values):
        yield Chart(
            title=f"{title}, {side}" if side else title,
            x_label="message size",
            x_scale=Scale.SIZE,
            positions=tuple(sizes),
            y_label=unit,
            y_scale=Scale.LINEAR,
            lines=tuple(lines),
        )


def _spreads(cases: CasesOfKind, timing: Timing, label: str, sizes: Sequence[int]) -> tuple[Value, ...]:
    pairs = zip(*(cases.values(timing, label, sizes, column) for column in ("rank_spread_us", "time_us")), strict=True)
    return tuple([None if spread is None or not time_us else 100 * spread / time_us for spread, time_us in pairs])
