"""An axis: from values to pixels, and the values that get a label."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nccl_bench.analysis.wording import size_with_unit
from nccl_bench.report.charts.chart import Scale

_TRANSFORMS: Mapping[Scale, Callable[[float], float]] = {
    Scale.LINEAR: float,
    Scale.MARKS: float,
    Scale.LOG: math.log,
    Scale.SIZE: math.log,
    # Linear near 0, and logarithmic from about 2 on.
    Scale.SIGNED_LOG: math.asinh,
}
# The multiples of a power of ten that can have a label. Each tuple is tried after the tuples before it.
_SERIES = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
# How many doublings can lie between two labels of an axis of sizes. Each number divides 10, so 1 KiB, 1 MiB and 1 GiB
# always have labels.
_DOUBLINGS = (1, 2, 5, 10)
_NICE_STEPS = (1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis of a plot."""

    scale: Scale  # the scale
    low: float  # the value at the pixel `start`
    high: float  # the value at the pixel `end`; greater than `low`
    start: float  # the pixel of `low`
    end: float  # the pixel of `high`

    def pixel(self, value: float) -> float:
        """Return the pixel of ``value``. A value far outside of the axis is drawn near it."""
        transform = _TRANSFORMS[self.scale]
        if self.scale in (Scale.LOG, Scale.SIZE):
            value = max(value, self.low / 1e6)
        low, high = transform(self.low), transform(self.high)
        share = (transform(value) - low) / (high - low)
        return self.start + min(max(share, -1.0), 2.0) * (self.end - self.start)

    def labels(self, gap: float, positions: Sequence[float] = ()) -> list[tuple[float, str]]:
        """Return values and their labels, at least ``gap`` pixels apart; ``positions`` are the sizes of the chart."""
        if self.scale is Scale.SIZE:
            return [(value, size_with_unit(int(value))) for value in self._sizes(positions, gap)]
        chosen: list[float] = []
        for candidates in self._candidates():
            if len(candidates) > len(chosen) and self._apart(candidates) >= gap:
                chosen = candidates
        return [(value, _number(value)) for value in chosen]

    def _candidates(self) -> Iterator[list[float]]:
        """Yield lists of values, each denser than the list before."""
        if self.scale is Scale.LOG and self.high / self.low > 4:
            exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for series in _SERIES:
                yield self._inside(share * 10.0**exponent for exponent in exponents for share in series)
        elif self.scale is Scale.SIGNED_LOG:
            most = math.ceil(math.log10(max(abs(self.low), abs(self.high), 1)))
            for least, series in ((2, (1.0,)), (1, (1.0,)), *((0, series) for series in _SERIES)):
                sizes = [share * 10.0**exponent for exponent in range(least, most + 1) for share in series]
                yield self._inside([*(-size for size in reversed(sizes)), 0.0, *sizes])
        else:
            magnitude = math.floor(math.log10(self.high - self.low))
            for exponent in (magnitude, magnitude - 1):
                for step in reversed(_NICE_STEPS):
                    width = step * 10.0**exponent
                    first, last = math.ceil(self.low / width), math.floor(self.high / width)
                    yield self._inside(number * width for number in range(first, last + 1))

    def _inside(self, values: Iterator[float] | Sequence[float]) -> list[float]:
        slack = 1e-9 * (self.high - self.low)
        return [value for value in values if self.low - slack <= value <= self.high + slack]

    def _apart(self, values: Sequence[float]) -> float:
        pixels = sorted(map(self.pixel, values))
        return min((after - before for before, after in itertools.pairwise(pixels)), default=math.inf)

    def _sizes(self, positions: Sequence[float], gap: float) -> list[float]:
        """Return powers of two with a constant factor between neighbours, such as 1 KiB, 32 KiB, 1 MiB.

        If fewer than two such powers fit, or if there is only one size, return ``positions`` that are ``gap`` apart.
        """
        for step in _DOUBLINGS if len({*positions}) > 1 else ():
            powers = [2.0**power for power in range(0, 64, step)]
            chosen = self._inside(powers)
            if len(chosen) > 1 and self._apart(chosen) >= gap:
                return chosen
        return list(self._spread(positions, gap))

    def _spread(self, values: Sequence[float], gap: float) -> Iterator[float]:
        last = -math.inf
        for value in values:
            if self.pixel(value) >= last + gap:
                last = self.pixel(value)
                yield value


def _number(value: float) -> str:
    value = 0.0 if abs(value) < 0.0005 else value
    return f"{value:,.3f}".rstrip("0").rstrip(".") if abs(value) < 10_000 else f"{value:.0e}"
