"""The charts of comparisons: ratios and saved time by size, a chart for each timing."""

from collections.abc import Callable, Mapping, Sequence

from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.wording import format_share
from nccl_bench.catalog.timings import Timing
from nccl_bench.report.charts.chart import Chart, ChartLine, ChartShade, Scale, Shading, Value
from nccl_bench.report.charts.kinds import CasesOfKind, CellsBySize, sizes_of

# The ratios that a chart always shows, so that small differences look small.
_LEAST_RANGE = (0.9, 1.1)


def ratio_charts(cases: CasesOfKind) -> list[Chart]:
    """Return the ratio by size, with interval, threshold and noise floor, for each timing."""
    charts = []
    for timing, pairs in _in_order(cases.comparisons):
        sizes = sizes_of(pairs)
        charts.append(
            Chart(
                title=timing,
                x_label="message size",
                x_scale=Scale.SIZE,
                positions=tuple(sizes),
                y_label=f"{cases.ratio}, below 1 is faster",
                y_scale=Scale.LOG,
                y_reference=1,
                y_range=_LEAST_RANGE,
                lines=tuple(
                    _line(cases, name, sizes, of_pair, lambda each: each.ratio, _low, _high)
                    for name, of_pair in pairs.items()
                ),
                shades=(_threshold(pairs, sizes), *_noise_floor(cases.floors.get(timing, {}), sizes)),
            )
        )
    return charts


def saved_charts(cases: CasesOfKind) -> list[Chart]:
    """Return the time that a call of the candidate saves, by size, for each timing."""
    charts = []
    for timing, pairs in _in_order(cases.comparisons):
        sizes = sizes_of(pairs)
        charts.append(
            Chart(
                title=timing,
                x_label="message size",
                x_scale=Scale.SIZE,
                positions=tuple(sizes),
                y_label=f"{cases.saved}, above 0 is faster",
                y_scale=Scale.SIGNED_LOG,
                y_reference=0,
                y_range=(-1, 1),
                lines=tuple(
                    _line(
                        cases,
                        name,
                        sizes,
                        of_pair,
                        lambda each: each.saved_us,
                        lambda each: _saved(each, _high(each)),
                        lambda each: _saved(each, _low(each)),
                    )
                    for name, of_pair in pairs.items()
                ),
            )
        )
    return charts


def _in_order(
    comparisons: Mapping[Timing, CellsBySize[Comparison]],
) -> list[tuple[Timing, CellsBySize[Comparison]]]:
    return [(timing, comparisons[timing]) for timing in Timing if timing in comparisons]


def _line(
    cases: CasesOfKind,
    name: str,
    sizes: Sequence[int],
    of_pair: Mapping[int, Comparison],
    *of_comparison: Callable[[Comparison], Value],
) -> ChartLine:
    values, low, high = (
        tuple(choose(of_pair[size]) if size in of_pair else None for size in sizes) for choose in of_comparison
    )
    return ChartLine(arm=name, label=name, style=cases.arms[name].style, values=values, low=low, high=high)


def _low(comparison: Comparison) -> Value:
    return comparison.interval.low if comparison.interval else None


def _high(comparison: Comparison) -> Value:
    return comparison.interval.high if comparison.interval else None


def _saved(comparison: Comparison, ratio: Value) -> Value:
    return None if ratio is None else comparison.saved_at(ratio)


def _threshold(pairs: CellsBySize[Comparison], sizes: Sequence[int]) -> ChartShade:
    thresholds = [max(each.threshold for each in _at(pairs, size)) for size in sizes]
    shares = " to ".join(dict.fromkeys(format_share(share) for share in (min(thresholds), max(thresholds))))
    return ChartShade(
        shading=Shading.THRESHOLD,
        label=f"threshold: {shares}",
        low=tuple(1 - threshold for threshold in thresholds),
        high=tuple(1 + threshold for threshold in thresholds),
    )


def _noise_floor(of_pairs: CellsBySize[float], sizes: Sequence[int]) -> list[ChartShade]:
    """Return the area of the noise floors of the bands. If there are several pairs, the largest noise floor counts."""
    floors = [max((of_pair.get(size, 0.0) for of_pair in of_pairs.values()), default=0.0) or None for size in sizes]
    known = [floor for of_pair in of_pairs.values() for floor in of_pair.values()]
    if not known:
        return []
    shares = " to ".join(dict.fromkeys(format_share(share) for share in (min(known), max(known))))
    return [
        ChartShade(
            shading=Shading.NOISE_FLOOR,
            label=f"noise floor: {shares}",
            low=tuple(None if floor is None else 1 / (1 + floor) for floor in floors),
            high=tuple(None if floor is None else 1 + floor for floor in floors),
        )
    ]


def _at(pairs: CellsBySize[Comparison], size: int) -> list[Comparison]:
    return [of_pair[size] for of_pair in pairs.values() if size in of_pair]
