"""The slope of a skew: by how much the early ranks' time grows for each microsecond of the late rank's delay."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import linear_regression

from nccl_bench.analysis.summary import Row


def slope(rows: Iterable[Row]) -> float | None:
    """Return the slope of the time over the measured delay, for ``rows`` of one arm, size and timing.

    Return ``None`` if there are fewer than two different delays.
    """
    points = [(row.measured_delay_us, row.time_us) for row in rows if row.time_us and row.measured_delay_us is not None]
    delays_us, times_us = [delay for delay, _ in points if delay is not None], [time for _, time in points]
    if len({*delays_us}) < 2:
        return None
    return linear_regression(delays_us, times_us).slope
