"""The picture of an analysis: its title, the ratio by size, and the time saved by size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from textwrap import wrap
from xml.etree.ElementTree import Element, indent, tostring

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.headline import Headline
from nccl_bench.analysis.wording import counted
from nccl_bench.report.charts.chart import Chart, Shading
from nccl_bench.report.charts.comparisons import ratio_charts, saved_charts
from nccl_bench.report.charts.kinds import kinds
from nccl_bench.report.charts.times import latency_charts
from nccl_bench.report.escaping import visible
from nccl_bench.report.svg.markup import add, short
from nccl_bench.report.svg.panel import Box, common_extent, draw
from nccl_bench.report.svg.style import colour_class, mark, style_sheet

# All lengths are in pixels. A README on GitHub is about this wide.
_WIDTH = 880.0
_MARGIN = 16.0
_LEFT = 64.0  # the left edge of the first plot
_GAP = 14.0  # the distance between two plots
_WIDEST = 330.0  # the width of a plot that has enough room
_HEIGHT = 150.0  # the height of a plot
_CHARACTER = 6.4  # the mean width of a character of ordinary text
_MOST_PROBLEMS = 4  # more problems than this are counted
_MOST_LINES = 3  # a longer paragraph is cut off, such as a traceback
# The most characters in a line of a paragraph, by its style. Bold and large characters are wider.
_MOST_CHARACTERS = {"title": 80, "problem": 108, "kind": 100, "row": 100, "quiet": 124, "": 124}


def svg_report(analysis: Analysis) -> str:
    """Return the picture of ``analysis``: of the arms in question, or of the times if nothing was compared."""
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria-labelledby": "title desc"})
    headline = analysis.headline
    title = headline.title or analysis.title
    add(root, "title", title, id="title")
    add(root, "desc", " ".join(_sentences(headline)), id="desc")
    add(root, "style", style_sheet())
    paper = add(root, "rect", class_="paper", rx=6)
    y = _paragraph(root, title, 30, "title")
    problems = headline.problems
    for problem in problems[:_MOST_PROBLEMS]:
        y = _paragraph(root, problem, y, "problem")
    if len(problems) > _MOST_PROBLEMS:
        y = _paragraph(root, f"and {counted(len(problems) - _MOST_PROBLEMS, 'problem')} more", y, "problem")
    # Only what answers the question is drawn.
    y = _draw_rows(root, replace(analysis, comparisons=analysis.answers), y)
    for fact in headline.facts:
        if fact.name == "Machine":
            y = _paragraph(root, fact.text, y + 6, "quiet")
    for name, value in (("width", _WIDTH), ("height", y - 4)):
        paper.set(name, short(value))
        root.set(name, short(value))
    root.set("viewBox", f"0 0 {short(_WIDTH)} {short(y - 4)}")
    indent(root, "")
    return tostring(root, encoding="unicode") + "\n"


def _draw_rows(root: Element, analysis: Analysis, y: float) -> float:
    """Draw the charts of each kind of case, a row for each quantity. Return the position below them."""
    of_kinds = kinds(analysis)
    if not of_kinds:
        return _paragraph(root, "Nothing was measured.", y, "")
    compared = [cases for cases in of_kinds if cases.comparisons]
    for cases in compared or of_kinds:
        rows = [ratio_charts(cases), saved_charts(cases)] if compared else [latency_charts(cases, analysis.sides)]
        if len(of_kinds) > 1:
            y = _paragraph(root, cases.name, y + 8, "kind")
        y = _legend(root, rows, y)
        for charts in rows:
            y = _draw_row(root, charts, y)
    return y


def _draw_row(root: Element, charts: Sequence[Chart], y: float) -> float:
    y = _paragraph(root, charts[0].y_label, y + 6, "row")
    width = min(_WIDEST, (_WIDTH - _MARGIN - _LEFT - _GAP * (len(charts) - 1)) / len(charts))
    extent = common_extent(charts)
    for number, chart in enumerate(charts):
        box = Box(x=_LEFT + number * (width + _GAP), y=y + 12, width=width, height=_HEIGHT)
        draw(root, chart, box, extent, labelled=number == 0)
    return y + _HEIGHT + 48


def _legend(root: Element, rows: Sequence[Sequence[Chart]], y: float) -> float:
    """Name the lines and the shaded areas. Return the position below them."""
    lines = {line.label: line.style for charts in rows for chart in charts for line in chart.lines}
    shades = {shade.shading: shade.label for charts in rows for chart in charts for shade in chart.shades}
    # The noise floors of timings differ, so the label has no number.
    labels = {shading: label if shading is Shading.THRESHOLD else str(shading) for shading, label in shades.items()}
    entries: list[tuple[str, int | Shading]] = [
        *lines.items(),
        *((label, shading) for shading, label in labels.items()),
    ]
    x = _MARGIN
    for label, entry in entries:
        width = 22 + _CHARACTER * len(label) + 18
        if x > _MARGIN and x + width > _WIDTH:
            x, y = _MARGIN, y + 18
        if isinstance(entry, Shading):
            add(root, "rect", class_=entry.replace(" ", "-"), x=x, y=y - 10, width=16, height=12)
        else:
            add(root, "path", class_=f"line {colour_class(entry)}", d=f"M{short(x)} {short(y - 4)}h16")
            add(root, "path", class_=f"{colour_class(entry)}f", d=f"M{short(x + 8)} {short(y - 4)}{mark(entry)}")
        add(root, "text", label, x=x + 22, y=y)
        x += width
    return y + 18


def _paragraph(root: Element, text: str, y: float, style: str) -> float:
    """Write ``text`` in lines that fit the width. Return the position below them."""
    lines = wrap(
        visible(text), _MOST_CHARACTERS[style], break_on_hyphens=False, max_lines=_MOST_LINES, placeholder=" ..."
    )
    for line in lines:
        add(root, "text", line, x=_MARGIN, y=y, **({"class_": style} if style else {}))
        y += 18 if style != "title" else 24
    return y


def _sentences(headline: Headline) -> Iterator[str]:
    """Yield what the picture shows, for readers who cannot see it."""
    yield from headline.problems
    for line in headline.lines:
        yield f"{' '.join(filter(None, (line.about, line.label, line.timing, line.text)))}."
    yield from (f"{fact.name}: {fact.text}." for fact in headline.facts if fact.name in ("Results", "Machine"))
