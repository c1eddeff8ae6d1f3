"""The gain and the cost of an overlap, from the times of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from nccl_bench.records.scenario_times import PartTimes


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFigures:
    """The figures of one arm in one case and timing, from medians over the rounds of the parts."""

    product: str  # the sides of the matrix product
    product_us: float  # the product alone
    collective_us: float  # the collective alone
    sequence_us: float  # the product, then the collective
    together_us: float  # the collective beside the product
    # The share of the collective's time that the overlap hides: (sequence - together) / (sequence - product). Negative
    # if together is slower than in sequence; None if the collective adds no time in sequence.
    hidden_share: float | None
    product_slowdown: float | None  # the product's time together / its time in sequence, minus 1; None without events
    collective_slowdown: float | None  # the collective's time together / in sequence, minus 1; None without events

    @classmethod
    def of(cls, times: PartTimes) -> PartFigures:
        """Return the figures of ``times``."""
        product_us, sequence_us, together_us = map(median, (times.product_us, times.sequence_us, times.together_us))
        added_us = sequence_us - product_us
        return cls(
            product=times.product,
            product_us=product_us,
            collective_us=median(times.collective_us),
            sequence_us=sequence_us,
            together_us=together_us,
            hidden_share=(sequence_us - together_us) / added_us if added_us > 0 else None,
            product_slowdown=_slowdown(times.product_together_us, times.product_in_sequence_us),
            collective_slowdown=_slowdown(times.collective_together_us, times.collective_in_sequence_us),
        )


def _slowdown(together_us: Sequence[float], alone_us: Sequence[float]) -> float | None:
    return median(together_us) / median(alone_us) - 1 if together_us and alone_us else None
