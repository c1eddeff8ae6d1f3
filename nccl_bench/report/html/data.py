"""The data of a page's charts, as plain data for its script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.report.charts.chart import Chart, Value
from nccl_bench.report.charts.comparisons import ratio_charts, saved_charts
from nccl_bench.report.charts.kinds import CasesOfKind
from nccl_bench.report.charts.steadiness import drawn_runs, round_charts, sensor_charts, spread_charts
from nccl_bench.report.charts.times import bandwidth_charts, cost_charts, latency_charts

# With so many times of rounds, a page stays below 1 MB.
MOST_ROUNDS = 40_000


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


def plain(chart: Chart) -> Mapping[str, object]:
    """Return ``chart`` for JSON: without empty fields, numbers with four significant digits."""
    record = {
        **{name: value for name, value in asdict(chart).items() if value not in ((), "", None) and value is not False},
        "description": chart.description,
        "lines": [
            _without_empty(
                {
                    "arm": line.arm,
                    "label": line.label,
                    "style": line.style,
                    "hollow": line.hollow,
                    "values": _rounded(line.values),
                    "low": _rounded(line.low),
                    "high": _rounded(line.high),
                }
            )
            for line in chart.lines
        ],
    }
    if chart.shades:
        record["shades"] = [
            {"shading": each.shading, "label": each.label, "low": _rounded(each.low), "high": _rounded(each.high)}
            for each in chart.shades
        ]
    return record


def _without_empty(record: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in record.items() if value not in ([], "") and value is not False}


def _rounded(values: Sequence[Value]) -> list[Value]:
    return [None if value is None else float(f"{value:.4g}") for value in values]
