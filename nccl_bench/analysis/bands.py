"""Bands: neighbouring sizes of one pair of arms and one timing that are shown together, with a verdict of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from nccl_bench.analysis.comparable import Point, without_size
from nccl_bench.analysis.comparison import Comparison, OpenReason
from nccl_bench.analysis.estimates import median_ratio
from nccl_bench.analysis.statistics import Interval, Verdict
from nccl_bench.catalog.timings import Timing

__all__ = ["Band", "OpenReason", "bands_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Neighbouring sizes of one pair of arms and one timing, with one verdict."""

    comparisons: tuple[Comparison, ...]  # the comparisons of the sizes, the smallest size first; never empty
    verdict: Verdict | None  # the verdict of the band; None if the variation is unknown
    reason: OpenReason | None  # the reason for `inconclusive`; None for every other verdict
    ratio: float  # the ratio of the band, from all rounds of all its sizes
    interval: Interval | None  # the interval of the band's ratio; None if rounds are too few
    noise_floor: float | None  # the noise floor, pooled over the sizes, as a share; None if it is unknown or not needed
    pairs_needed: int | None  # rounds that are needed; None if there is an interval, or if no number is enough

    @property
    def baseline(self) -> str:
        """The arm that the candidate is compared with."""
        return self.comparisons[0].baseline

    @property
    def candidate(self) -> str:
        """The arm that is judged."""
        return self.comparisons[0].candidate

    @property
    def timing(self) -> Timing:
        """The timing of all comparisons."""
        return self.comparisons[0].timing

    @property
    def kind(self) -> Point:
        """The case without its size, and the timing."""
        return without_size((self.comparisons[0].case, self.timing))

    @property
    def threshold(self) -> float:
        """The smallest difference that matters, as a share; the same at all sizes of the band."""
        return self.comparisons[0].threshold

    @property
    def direction(self) -> Verdict | None:
        """``FASTER`` or ``SLOWER`` if the direction is sure, which says nothing about the threshold; else ``None``."""
        if self.interval is None or self.reason not in (None, OpenReason.BELOW_THRESHOLD):
            return None
        factor = 1 + (self.noise_floor or 0)
        if self.interval.high * factor < 1:
            return Verdict.FASTER
        return Verdict.SLOWER if self.interval.low / factor > 1 else None

    @property
    def ratios(self) -> tuple[float, float]:
        """The smallest and the largest ratio of a size."""
        ratios = [each.ratio for each in self.comparisons]
        return min(ratios), max(ratios)

    @property
    def saved_us(self) -> tuple[float, float]:
        """The smallest and the largest time saved at a size, microseconds a call; negative for a slower candidate."""
        saved = [each.saved_us for each in self.comparisons]
        return min(saved), max(saved)


def bands_of(comparisons: Sequence[Comparison]) -> tuple[Band, ...]:
    """Return the bands of ``comparisons``, by pair of arms and kind of case, then timing, then size."""
    groups: dict[tuple[object, ...], list[Comparison]] = {}
    for each in comparisons:
        kind = without_size((each.case, each.timing))
        groups.setdefault((each.baseline, each.candidate, kind), []).append(each)
    return tuple(band for of_group in groups.values() for band in _bands(of_group))


def _bands(comparisons: Sequence[Comparison]) -> list[Band]:
    by_size = sorted(comparisons, key=lambda each: each.case.size_bytes)
    return [_band(tuple(of_band)) for _, of_band in groupby(by_size, key=lambda each: (each.verdict, each.threshold))]


def _band(comparisons: tuple[Comparison, ...]) -> Band:
    intervals = [each.interval for each in comparisons if each.interval]
    floors = [each.noise_floor for each in comparisons if each.noise_floor is not None]
    verdict = comparisons[0].verdict
    return Band(
        comparisons=comparisons,
        verdict=verdict,
        reason=next((each.reason for each in comparisons if each.reason), None),
        ratio=median_ratio([each.ratio for each in comparisons]),
        interval=Interval(
            low=min(each.low for each in intervals),
            high=max(each.high for each in intervals),
            error=max(each.error for each in intervals),
        )
        if intervals
        else None,
        noise_floor=max(floors, default=None),
        pairs_needed=max((each.pairs_needed for each in comparisons if each.pairs_needed is not None), default=None),
    )
