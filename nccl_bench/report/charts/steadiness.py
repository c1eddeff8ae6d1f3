"""The charts that show whether the machine was steady: rounds, the spread between ranks, clocks of the GPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nccl_bench.analysis.rounds import RoundTimes
from nccl_bench.analysis.summary import Row
from nccl_bench.analysis.wording import size_with_unit
from nccl_bench.catalog.timings import Timing
from nccl_bench.report.charts.chart import Chart, ChartLine, Scale, Value
from nccl_bench.report.charts.kinds import CasesOfKind, kind_of, sizes_of

# The part of the space of a case that its rounds fill. The rest parts it from the next case.
_FILLED = 0.9


def round_charts(cases: CasesOfKind, rounds: Sequence[RoundTimes]) -> list[Chart]:
    """Return the time of each round in the order of measurement, for each timing."""
    charts = []
    for timing in Timing:
        of_timing = [each for each in rounds if each.timing is timing and kind_of(each.case) == cases.kind]
        if not of_timing:
            continue
        positions = tuple(
            round(number + _FILLED * at / each.count, 4)
            for number, each in enumerate(of_timing)
            for at in each.positions
        )
        lines = []
        for name, arm in cases.arms.items():
            values = tuple(
                time for each in of_timing for time in each.times_us.get(name, (None,) * len(each.positions))
            )
            if any(value is not None for value in values):
                lines.append(ChartLine(arm=name, label=name, style=arm.style, values=values))
        charts.append(
            Chart(
                title=timing,
                x_label="rounds, size after size, in the order of measurement",
                x_scale=Scale.MARKS,
                positions=positions,
                marks=tuple((number, size_with_unit(each.case.size_bytes)) for number, each in enumerate(of_timing)),
                y_label="us",
                y_scale=Scale.LOG,
                lines=tuple(lines),
                points_only=True,
            )
        )
    return charts


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
                    y_label="% of the time between fastest and slowest rank",
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
                    style=list(Timing).index(timing) + 1,
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
                    lines=tuple(lines),
                )
            )
    return charts


def _spread(row: Row) -> Value:
    if row.rank_spread_us is None or not row.time_us:
        return None
    return 100 * row.rank_spread_us / row.time_us
