"""The data of a page's charts, as plain data for its script."""

from __future__ import annotations

from collections.abc import Sequence

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.report.charts.chart import Chart, ChartLine, ChartShade
from nccl_bench.report.charts.comparisons import ratio_charts, saved_charts
from nccl_bench.report.charts.kinds import CasesOfKind
from nccl_bench.report.charts.steadiness import drawn_runs, round_charts, sensor_charts, spread_charts
from nccl_bench.report.charts.times import bandwidth_charts, cost_charts, latency_charts
from nccl_bench.report.html.rounding import rounded

# With so many times of rounds, a page stays below 1 MB.
MOST_ROUNDS = 40_000
# The significant digits of the values. The script rounds those of the table of times once more, as a terminal does, so
# they have more.
_USUAL_DIGITS = 4
_DIGITS = {"latency": 6}


def charts_of(analysis: Analysis, kinds: Sequence[CasesOfKind]) -> dict[str, list[list[Chart]]]:
    """Return all charts by name. Each name has a list of charts for each kind of case."""
    runs = drawn_runs(analysis, MOST_ROUNDS)
    return {
        "ratio": [ratio_charts(cases) for cases in kinds],
        "saved": [saved_charts(cases) for cases in kinds],
        "latency": [latency_charts(cases, analysis.sides) for cases in kinds],
        "cost": [cost_charts(cases) for cases in kinds],
        "rounds": [round_charts(cases, runs) for cases in kinds],
        "spread": [spread_charts(cases) for cases in kinds],
        "sensors": [sensor_charts(cases) for cases in kinds],
        "bandwidth": [bandwidth_charts(cases) for cases in kinds],
    }


def plain(name: str, chart: Chart) -> dict[str, object]:
    """Return ``chart``, one of the charts with ``name``, for JSON: without absent fields, with few digits."""
    digits = _DIGITS.get(name, _USUAL_DIGITS)
    record: dict[str, object] = {
        "title": chart.title,
        "arm": chart.arm,
        "description": chart.description,
        "x_scale": chart.x_scale,
        "positions": chart.positions,
        "marks": chart.marks,
        "y_label": chart.y_label,
        "y_scale": chart.y_scale,
        "y_reference": chart.y_reference,
        "y_range": chart.y_range,
        "lines": [_line(line, digits) for line in chart.lines],
        "shades": [_shade(shade, digits) for shade in chart.shades],
        "points_only": chart.points_only or None,
    }
    # A chart without marks or shades has no such field; 0 is a value.
    return {name: value for name, value in record.items() if value or value == 0}


def _line(line: ChartLine, digits: int) -> dict[str, object]:
    ends = {"low": rounded(line.low, digits), "high": rounded(line.high, digits)} if line.low else {}
    hollow = {"hollow": True} if line.hollow else {}
    return {
        "arm": line.arm,
        "label": line.label,
        "style": line.style,
        "values": rounded(line.values, digits),
        **ends,
        **hollow,
    }


def _shade(shade: ChartShade, digits: int) -> dict[str, object]:
    return {
        "shading": shade.shading,
        "label": shade.label,
        "low": rounded(shade.low, digits),
        "high": rounded(shade.high, digits),
    }
