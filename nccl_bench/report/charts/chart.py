"""The record of a chart. It holds what is drawn, and nothing about colours, fonts or pixels."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from nccl_bench.analysis.wording import size_with_unit

# A value of a line; None where there is no value.
Value = float | None


class Scale(StrEnum):
    """The scale of an axis."""

    LINEAR = "linear"
    LOG = "log"  # logarithmic; values are above 0
    SIGNED_LOG = "signed log"  # logarithmic in both directions, and linear near 0
    SIZE = "size"  # logarithmic, with message sizes as labels
    MARKS = "marks"  # linear, with the labels of `Chart.marks`


class Shading(StrEnum):
    """The meaning of a shaded area."""

    THRESHOLD = "threshold"  # differences that do not matter
    NOISE_FLOOR = "noise floor"  # differences between two communicators that were made alike


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartLine:
    """A line of a chart, with a value for each position of the chart."""

    arm: str  # the name that switches the line on and off; empty if the line is always shown
    label: str  # the name of the line
    style: int  # the number of its colour, dash and mark
    hollow: bool = False  # True if its marks are hollow: the time before a change, in the style of the time after it
    values: tuple[Value, ...]  # the values
    low: tuple[Value, ...] = ()  # the lower ends of the intervals; empty if there are no intervals
    high: tuple[Value, ...] = ()  # the upper ends of the intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartShade:
    """An area behind the lines."""

    shading: Shading  # the meaning of the area
    label: str  # the meaning in words
    low: tuple[Value, ...]  # the lower edge at each position
    high: tuple[Value, ...]  # the upper edge at each position


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart: lines over common positions."""

    title: str  # the title, such as the name of a timing
    arm: str = ""  # the arm that the whole chart is about; empty if the chart is about several arms
    x_label: str  # the name of the horizontal axis
    x_scale: Scale  # the scale of the horizontal axis
    positions: tuple[float, ...]  # the horizontal positions, increasing
    marks: tuple[tuple[float, str], ...] = ()  # positions and texts of the labels, for the scale `marks`
    y_label: str  # the name and the unit of the values
    y_scale: Scale  # the scale of the values
    y_reference: float | None = None  # the value at which nothing changed; None if there is none
    y_range: tuple[float, float] | None = None  # values that are always visible; None if only the lines' values are
    lines: tuple[ChartLine, ...]  # the lines
    shades: tuple[ChartShade, ...] = ()  # the areas behind the lines
    points_only: bool = False  # True if points are not joined

    @property
    def description(self) -> str:
        """The chart in words, for users of a screen reader."""
        # A screen reader would read "us" as the English word.
        quantity = re.sub(r"\bus\b", "microseconds", self.y_label)
        return f"{self.title}: {quantity}, by {self.x_label}. {' '.join(self._lines_in_words())}"

    def _lines_in_words(self) -> Iterator[str]:
        for line in self.lines:
            values = [value for value in line.values if value is not None]
            if values:
                known = [
                    position for position, value in zip(self.positions, line.values, strict=True) if value is not None
                ]
                ends = ", ".join(f"{values[at]:.4g} at {self._place(known[at])}" for at in (0, -1))
                yield f"{line.label}: {ends}, from {min(values):.4g} to {max(values):.4g}."
            else:
                yield f"{line.label}: no value."

    def _place(self, position: float) -> str:
        """Return a horizontal position in words."""
        if self.x_scale is Scale.SIZE:
            return size_with_unit(int(position))
        return next((text for start, text in reversed(self.marks) if start <= position), f"{position:.4g}")


def same_range(charts: Sequence[Chart], always: Sequence[float] = ()) -> list[Chart]:
    """Return ``charts`` with one vertical range, so that they can be compared by eye. It includes ``always``."""
    values = [value for chart in charts for line in chart.lines for value in line.values if value is not None]
    if not values:
        return list(charts)
    values += always
    return [replace(chart, y_range=(min(values), max(values))) for chart in charts]
