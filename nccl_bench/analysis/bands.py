"""Bands: neighbouring sizes of one pair of arms and one timing that are shown together, with a verdict of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from nccl_bench.analysis.comparable import Point, without_size
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.statistics import Interval, Verdict
from nccl_bench.catalog.timings import Timing


class OpenReason(StrEnum):
    """The reason why the verdict of a band is ``inconclusive``."""

    BELOW_THRESHOLD = "below threshold"  # the direction is sure, but the difference may be below the threshold
    WITHIN_NOISE = "within noise"  # two communicators made alike differ as much as the two arms
    TOO_FEW_ROUNDS = "too few rounds"  # there are not enough rounds for an interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Neighbouring sizes of one pair of arms and one timing, with one verdict."""

    comparisons: tuple[Comparison, ...]  # the comparisons of the sizes, the smallest size first; never empty
    verdict: Verdict | None  # the verdict of the band; None if the variation is unknown
    reason: OpenReason | None  # the reason for `inconclusive`; None for every other verdict
    interval: Interval | None  # the interval of the band's ratio; None if rounds are too few
    noise_floor: float | None  # the noise floor, pooled over the sizes, as a share; None if it is unknown or not needed

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
    def ratios(self) -> tuple[float, float]:
        """The smallest and the largest ratio of a size."""
        ratios = [each.ratio for each in self.comparisons]
        return min(ratios), max(ratios)

    @property
    def saved_us(self) -> tuple[float, float]:
        """The smallest and the largest time saved at a size, microseconds a call; negative for a slower candidate."""
        saved = [each.baseline_us - each.candidate_us for each in self.comparisons]
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
    reason = None
    if verdict is Verdict.INCONCLUSIVE:
        within = any(each.below_floor or each.processes_differ for each in comparisons)
        reason = OpenReason.WITHIN_NOISE if within else OpenReason.BELOW_THRESHOLD
        if any(each.interval is None for each in comparisons):
            reason = OpenReason.TOO_FEW_ROUNDS
    return Band(
        comparisons=comparisons,
        verdict=verdict,
        reason=reason,
        interval=Interval(
            low=min(each.low for each in intervals),
            high=max(each.high for each in intervals),
            error=max(each.error for each in intervals),
        )
        if intervals
        else None,
        noise_floor=max(floors, default=None),
    )
