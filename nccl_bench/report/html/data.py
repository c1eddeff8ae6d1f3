"""The data of a page's charts, as JSON for its script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Raw

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.report.charts.chart import Chart, ChartLine, ChartShade
from nccl_bench.report.charts.comparisons import ratio_charts, saved_charts
from nccl_bench.report.charts.kinds import CasesOfKind
from nccl_bench.report.charts.steadiness import drawn_runs, round_charts, sensor_charts, spread_charts
from nccl_bench.report.charts.times import bandwidth_charts, cost_charts, latency_charts
from nccl_bench.report.html.rounding import raw_json, rounded_lists

# With at most this many times of rounds, a page stays below 1 MB.
MOST_ROUNDS = 40_000
# The significant digits of most values. The values of the table of times have more digits, because the script rounds
# them again, as a terminal does.
_USUAL_DIGITS = 4
_DIGITS = {"latency": 6}


def charts_of(analysis: Analysis, kinds: Sequence[CasesOfKind]) -> Iterator[tuple[str, list[list[Chart]]]]:
    """Yield the charts of each name: a list for each kind of case. All charts of a long run would need much memory."""
    yield "ratio", [ratio_charts(cases) for cases in kinds]
    yield "saved", [saved_charts(cases) for cases in kinds]
    yield "latency", [latency_charts(cases, analysis.sides) for cases in kinds]
    yield "cost", [cost_charts(cases) for cases in kinds]
    yield "rounds", _round_charts(analysis, kinds)
    yield "spread", [spread_charts(cases) for cases in kinds]
    yield "sensors", [sensor_charts(cases) for cases in kinds]
    yield "bandwidth", [bandwidth_charts(cases) for cases in kinds]


def _round_charts(analysis: Analysis, kinds: Sequence[CasesOfKind]) -> list[list[Chart]]:
    runs = drawn_runs(analysis, MOST_ROUNDS)
    return [round_charts(cases, runs) for cases in kinds]


def chart_json(name: str, chart: Chart) -> Raw:
    """Return ``chart``, one of the charts with ``name``, as JSON: without absent fields, with few digits."""
    lines, shades = [*map(_line, chart.lines)], [*map(_shade, chart.shades)]
    places = [(part, key) for part in (*lines, *shades) for key in ("values", "low", "high") if key in part]
    in_digits = rounded_lists([part[key] for part, key in places], _DIGITS.get(name, _USUAL_DIGITS))
    for (part, key), numbers in zip(places, in_digits, strict=True):
        part[key] = numbers
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
        "lines": lines,
        "shades": shades,
        "points_only": chart.points_only or None,
    }
    # A chart without marks or shades has no such field; 0 is a value.
    return raw_json({key: value for key, value in record.items() if value or value == 0})


def _line(line: ChartLine) -> dict[str, Any]:
    ends = {"low": line.low, "high": line.high} if line.low else {}
    hollow = {"hollow": True} if line.hollow else {}
    return {"arm": line.arm, "label": line.label, "style": line.style, "values": line.values, **ends, **hollow}


def _shade(shade: ChartShade) -> dict[str, Any]:
    return {"shading": shade.shading, "label": shade.label, "low": shade.low, "high": shade.high}
