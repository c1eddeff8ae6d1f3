"""The charts of times: latency and bandwidth by size, and the timings of each arm side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.report.charts.chart import Chart, ChartLine, Scale, same_range
from nccl_bench.report.charts.kinds import CasesOfKind, sizes_of
from nccl_bench.report.charts.styles import timing_style

# The time of smaller messages is mostly latency, so their bandwidth says nothing about the links.
SMALLEST_FOR_BANDWIDTH = 2**20


def latency_charts(cases: CasesOfKind, sides: tuple[str, str]) -> list[Chart]:
    """Return the time by size, a line for each arm, for each timing; ``sides`` are the names of two sides."""
    charts = []
    for timing in Timing:
        if timing in cases.measured:
            sizes = sizes_of(cases.measured[timing])
            lines = _lines_of_arms(cases, timing, sizes, "time_us", "q1_us", "q3_us")
        elif timing in cases.comparisons:
            sizes = sizes_of(cases.comparisons[timing])
            lines = _lines_of_sides(cases, timing, sizes, sides)
        else:
            continue
        charts.append(_by_size(timing, sizes, lines, cases.times))
    return charts


def cost_charts(cases: CasesOfKind) -> list[Chart]:
    """Return a chart for each arm, with a line for each timing: they show where the time goes."""
    charts = []
    for label, drawn in cases.drawn.items():
        timings = [timing for timing in Timing if label in cases.measured.get(timing, {})]
        if timings:
            sizes = sizes_of({timing.value: cases.measured[timing][label] for timing in timings})
            lines = []
            for timing in timings:
                values = cases.values(timing, label, sizes, "time_us")
                lines.append(ChartLine(arm="", label=timing, style=timing_style(timing), values=values))
            charts.append(replace(_by_size(label, sizes, lines, cases.times), arm=drawn.name))
    return same_range(charts)


def bandwidth_charts(cases: CasesOfKind) -> list[Chart]:
    """Return the bus bandwidth by size of large messages, for each timing that moves bytes."""
    charts = []
    for timing in Timing:
        if TIMINGS[timing].moves_bytes and timing in cases.measured:
            sizes = [size for size in sizes_of(cases.measured[timing]) if size >= SMALLEST_FOR_BANDWIDTH]
            lines = _lines_of_arms(cases, timing, sizes, "busbw_gb_s")
            # A scenario with other work than the collective has no bandwidth.
            if any(value is not None for line in lines for value in line.values):
                charts.append(_by_size(timing, sizes, lines, "bus bandwidth, GB/s", Scale.LINEAR, (0, 0)))
    return charts


def _by_size(
    title: str,
    sizes: Sequence[int],
    lines: Iterable[ChartLine],
    y_label: str,
    y_scale: Scale = Scale.LOG,
    y_range: tuple[float, float] | None = None,
) -> Chart:
    return Chart(
        title=title,
        x_label="message size",
        x_scale=Scale.SIZE,
        positions=tuple(sizes),
        y_label=y_label,
        y_scale=y_scale,
        y_range=y_range,
        lines=tuple(lines),
    )


def _lines_of_arms(cases: CasesOfKind, timing: Timing, sizes: Sequence[int], *columns: str) -> list[ChartLine]:
    """Return a line for each arm; ``columns`` of the summary have the value, and both ends of its interval."""
    lines = []
    for label, drawn in cases.drawn.items():
        if label in cases.measured[timing]:
            values, *ends = (cases.values(timing, label, sizes, column) for column in columns)
            low, high = ends or ((), ())
            lines.append(
                ChartLine(
                    arm=drawn.name,
                    label=label,
                    style=drawn.style,
                    hollow=drawn.hollow,
                    values=values,
                    low=low,
                    high=high,
                )
            )
    return lines


def _lines_of_sides(
    cases: CasesOfKind, timing: Timing, sizes: Sequence[int], sides: tuple[str, str]
) -> list[ChartLine]:
    """Return a line for each part of each pair: the medians over the runs of its side, which have no interval."""
    drawn = {(each.side, each.arm): each for each in cases.drawn.values()}
    times: dict[str, dict[int, float]] = {}
    for of_pair in cases.comparisons[timing].values():
        for size, each in of_pair.items():
            times.setdefault(drawn[sides[0], each.baseline].label, {})[size] = each.baseline_us
            times.setdefault(drawn[sides[1], each.candidate].label, {})[size] = each.candidate_us
    return [
        ChartLine(
            arm=cases.drawn[label].name,
            label=label,
            style=cases.drawn[label].style,
            hollow=cases.drawn[label].hollow,
            values=tuple(map(of_label.get, sizes)),
        )
        for label, of_label in times.items()
    ]
