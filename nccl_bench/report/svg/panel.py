"""The drawing of a chart in a rectangle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from xml.etree.ElementTree import Element

from nccl_bench.report.charts.chart import Chart, ChartLine, ChartShade, Scale, Value
from nccl_bench.report.svg.axis import Axis
from nccl_bench.report.svg.markup import add, path, short
from nccl_bench.report.svg.style import colour_class, mark

# The least distance between labels, in pixels.
_LABEL_GAP = {"x": 52.0, "y": 18.0}
# The distance of the outermost marks from the frame, in pixels.
_INSET = 8.0
# The share of the height that intervals may add above and below the values.
_MOST_OF_INTERVALS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """The rectangle of a plot, without its labels. The unit is the pixel."""

    x: float  # the left edge
    y: float  # the upper edge
    width: float  # the width
    height: float  # the height


def draw(parent: Element, chart: Chart, box: Box, extent: tuple[float, float], *, labelled: bool) -> None:
    """Draw ``chart`` into ``box``. ``extent`` is the range of values; ``labelled`` says if values have labels."""
    sizes = chart.positions
    # A single position has its place in the middle.
    edges = (min(sizes), max(sizes)) if len(set(sizes)) > 1 else (sizes[0] / 2, sizes[0] * 2)
    across = Axis(scale=chart.x_scale, low=edges[0], high=edges[1], start=_INSET, end=box.width - _INSET)
    up = Axis(scale=chart.y_scale, low=extent[0], high=extent[1], start=box.height - _INSET, end=_INSET)
    add(parent, "text", chart.title, class_="panel", x=box.x, y=box.y - 7)
    # An inner `svg` cuts off what lies outside of the plot.
    plot = add(parent, "svg", x=box.x, y=box.y, width=box.width, height=box.height)
    xs = [across.pixel(position) for position in chart.positions]
    # The widest area lies at the back.
    for shade in reversed(chart.shades):
        for area in _areas(shade, xs, up, box.width):
            add(plot, "path", class_=shade.shading.replace(" ", "-"), d=area)
    for value, text in up.labels(_LABEL_GAP["y"]):
        y = up.pixel(value)
        add(plot, "path", class_="grid", d=f"M0 {short(y)}H{short(box.width)}")
        if labelled:
            add(parent, "text", text, class_="quiet", x=box.x - 6, y=box.y + y + 4, text_anchor="end")
    if chart.y_reference is not None:
        add(plot, "path", class_="reference", d=f"M0 {short(up.pixel(chart.y_reference))}H{short(box.width)}")
    for line in chart.lines:
        _draw_line(plot, line, xs, up, joined=not chart.points_only)
    add(plot, "rect", class_="frame", x=0.5, y=0.5, width=box.width - 1, height=box.height - 1)
    for value, text in across.labels(_LABEL_GAP["x"], chart.positions):
        x = box.x + across.pixel(value)
        add(parent, "text", text, class_="quiet", x=x, y=box.y + box.height + 15, text_anchor="middle")


def common_extent(charts: Sequence[Chart]) -> tuple[float, float]:
    """Return the range of values that ``charts`` share, so that they can be compared by eye.

    All values are inside. Intervals that are much longer than the distance between values are cut off. A value of 0 has
    no place on a logarithmic axis.
    """
    scale = charts[0].y_scale
    seen = [value for chart in charts for line in chart.lines for value in line.values if value is not None]
    seen += [value for chart in charts for value in chart.y_range or ()]
    if scale is Scale.LOG:
        seen = [value for value in seen if value > 0] or [1.0]
    ends = [end for chart in charts for line in chart.lines for end in (*line.low, *line.high) if end is not None]
    low, high = min(seen), max(seen)
    if low == high:
        return (low / 2, high * 2) if scale is Scale.LOG else (low - 1, high + 1)
    axis = Axis(scale=scale, low=low, high=high, start=0, end=1)
    outside = {axis.pixel(end): end for end in (*ends, low, high)}
    allowed = {share: end for share, end in outside.items() if -_MOST_OF_INTERVALS <= share <= 1 + _MOST_OF_INTERVALS}
    return allowed[min(allowed)], allowed[max(allowed)]


def _draw_line(plot: Element, line: ChartLine, xs: Sequence[float], up: Axis, *, joined: bool) -> None:
    points = [None if value is None else (x, up.pixel(value)) for x, value in zip(xs, line.values, strict=True)]
    colour = colour_class(line.style)
    intervals = "".join(
        f"M{short(x)} {short(up.pixel(low))}V{short(up.pixel(high))}"
        for x, low, high in zip(xs, line.low, line.high, strict=False)
        if low is not None and high is not None
    )
    if intervals:
        add(plot, "path", class_=f"interval {colour}", d=intervals)
    # A gap in the values is a gap in the line.
    parts = [list(part) for present, part in groupby(points, key=lambda point: point is not None) if present]
    known = [[point for point in part if point is not None] for part in parts]
    if joined and any(len(part) > 1 for part in known):
        add(plot, "path", class_=f"line {colour}", d="".join(path(part) for part in known if len(part) > 1))
    marks = "".join(f"M{short(x)} {short(y)}{mark(line.style)}" for part in known for x, y in part)
    if marks:
        add(plot, "path", class_=f"{colour}f", d=marks)


def _areas(shade: ChartShade, xs: Sequence[float], up: Axis, width: float) -> Iterator[str]:
    """Yield the outlines of a shade. It reaches half way to its neighbours, and at the ends to the frame."""
    edges = [0.0, *((left + right) / 2 for left, right in pairwise(xs)), width]
    columns = zip(edges, edges[1:], shade.low, shade.high, strict=False)
    for known, part in groupby(columns, key=lambda column: _known(*column[2:])):
        if known:
            lower, upper = [], []
            for left, right, low, high in part:
                lower += [(left, up.pixel(low or 0.0)), (right, up.pixel(low or 0.0))]
                upper += [(left, up.pixel(high or 0.0)), (right, up.pixel(high or 0.0))]
            yield path([*upper, *reversed(lower)]) + "z"


def _known(low: Value, high: Value) -> bool:
    return low is not None and high is not None
