"""Judged segments: neighbouring sizes whose ratios are alike, with one verdict from the rounds of all of them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import NormalDist, fmean, median

from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.judging import Claim, Judgement, OpenReason, direction, judge, nearer
from nccl_bench.analysis.odd_values import deviation_of_distance, odd_distance, odd_values
from nccl_bench.analysis.segments import Series, segments
from nccl_bench.analysis.shared_arm import unconfirmed
from nccl_bench.analysis.statistics import Interval, Verdict, verdict_of

# A series or a part of it: sizes of one pair of arms, kind of case and timing, the smallest size first.
Sizes = tuple[Comparison, ...]

# Ratios of neighbouring sizes may differ by this share of the threshold, even if rounds and twin hardly vary.
_LEAST_DEVIATION = 0.05
# So many standard deviations beyond a limit, 98 % of all values exceed the limit.
_SURE = NormalDist().inv_cdf(0.98)
# The largest logarithm of one size's ratio. Without this limit, its exponential could overflow.
_FARTHEST = math.log(1e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Neighbouring sizes with ratios that are alike, and the verdict about them."""

    sizes: Sizes  # the comparisons of the sizes; never empty
    verdict: Verdict | None  # the verdict; None if the variation is unknown
    reason: OpenReason | None  # the reason for `inconclusive`; None for every other verdict
    interval: Interval | None  # the interval of the ratio; None if rounds are too few
    noise_floor: float | None  # the noise floor as a share; None if it is unknown or not needed
    pairs_needed: int | None  # rounds that are needed; None if there is an interval, or if no number is enough

    @property
    def shown_with(self) -> tuple[object, ...]:
        """Neighbouring segments for which this value is equal are shown as one band."""
        threshold, lean = self.sizes[0].threshold, None
        if self.reason is OpenReason.BELOW_THRESHOLD:
            lean = direction(self.interval, self.noise_floor)
        elif self.reason in (OpenReason.NO_TWIN, OpenReason.DIFFERENT_PROCESSES):
            lean = verdict_of(self.interval, threshold)
        return threshold, self.verdict, self.reason, lean

    @property
    def hidden_change(self) -> float | None:
        """The largest change of one size that can stay hidden in the segment, as a share; ``None`` if none can.

        A size is hidden if its true ratio contradicts the verdict of the segment. The change is relative to the mean of
        the other sizes. In 98 % of all runs, a size with a larger change leaves the segment.
        """
        if len(self.sizes) == 1 or self.verdict in (Verdict.INCONCLUSIVE, None):
            return None
        values, deviation = [*map(_logarithm, self.sizes)], _deviation(self.sizes)
        mean, threshold = fmean(values), self.sizes[0].threshold
        # The distance from the mean at which a ratio contradicts the verdict.
        contrary = {
            Verdict.FASTER: math.log1p(-threshold) - mean,
            Verdict.SLOWER: mean - math.log1p(threshold),
            # A difference below the noise floor hides nothing.
            Verdict.EQUIVALENT: max(math.log1p(threshold) - mean, mean - math.log1p(-threshold))
            + math.log1p(self.noise_floor or 0.0),
        }[self.verdict]
        odd, sure = odd_distance(values, deviation), _SURE * deviation_of_distance(values, deviation)
        if self.verdict is not Verdict.EQUIVALENT and odd + sure <= contrary:
            return None
        return math.expm1(min(_FARTHEST, max(odd, contrary) + sure))

    def outsiders(self) -> list[int]:
        """Return the indices of the sizes that the verdict of the segment would hide."""
        if len(self.sizes) == 1:
            return []
        decided = self.verdict not in (Verdict.INCONCLUSIVE, None)
        against = {index for index, each in enumerate(self.sizes) if self._contradicts(each)} if decided else set()
        odd = odd_values([*map(_logarithm, self.sizes)], _deviation(self.sizes)) if against else []
        return [
            index
            for index, each in enumerate(self.sizes)
            if (index in odd and index in against) or self._would_hide(each)
        ]

    def _contradicts(self, size: Comparison) -> bool:
        """Return True if the verdict of the segment is wrong for the ratio of ``size``."""
        if self.verdict is Verdict.FASTER:
            return size.ratio >= 1 - size.threshold
        if self.verdict is Verdict.SLOWER:
            return size.ratio <= 1 + size.threshold
        return self._differs(Interval(low=size.ratio, high=size.ratio, error=1.0), size.threshold)

    def _would_hide(self, size: Comparison) -> bool:
        if self.verdict is Verdict.INCONCLUSIVE:
            return size.verdict in (Verdict.FASTER, Verdict.SLOWER)
        if size.shared is not None and self.verdict in unconfirmed([size], size.threshold):
            return True
        own = size.interval
        if own is None or self.verdict is None:
            return False
        if self.verdict is Verdict.EQUIVALENT:
            return self._differs(own, size.threshold)
        return own.low >= 1 - size.threshold if self.verdict is Verdict.FASTER else own.high <= 1 + size.threshold

    def _differs(self, interval: Interval, threshold: float) -> bool:
        """Return True if ``interval`` is beyond the threshold; a difference below the noise floor hides nothing."""
        return verdict_of(nearer(interval, self.noise_floor), threshold) in (Verdict.FASTER, Verdict.SLOWER)


def judged_segments(series: Iterable[Sizes]) -> list[list[Segment]]:
    """Return the segments of each of ``series``. All of them share the error of one analysis.

    A size leaves its segment if the verdict of the segment would hide it. Then all segments are judged again.
    """
    parts = _cut(series)
    while True:
        judged = _judged(parts)
        cut = [
            [part for segment in of_series for part in _without(segment.sizes, segment.outsiders())]
            for of_series in judged
        ]
        if cut == parts:
            return judged
        parts = cut


def _cut(series: Iterable[Sizes]) -> list[list[Sizes]]:
    """Return neighbouring sizes with equal thresholds whose ratios differ no more than their deviations explain."""
    parts = [
        [tuple(part) for _, part in groupby(sizes, key=lambda each: (each.threshold, _has_evidence(each)))]
        for sizes in series
    ]
    known = [part for of_series in parts for part in of_series if _has_evidence(part[0])]
    cuts = iter(segments([_values(part) for part in known]))
    return [
        [
            part[first:after]
            for part in of_series
            for first, after in (next(cuts) if _has_evidence(part[0]) else _single(part))
        ]
        for of_series in parts
    ]


def _values(sizes: Sizes) -> Series:
    return Series(values=[*map(_logarithm, sizes)], deviations=_deviations(sizes))


def _single(sizes: Sizes) -> list[tuple[int, int]]:
    return [(index, index + 1) for index in range(len(sizes))]


def _deviation(sizes: Sizes) -> float:
    """Return how far the ratio of a size usually lies from those of the others, as a logarithm."""
    # The rounds of a single size show badly how much they vary, so the usual size stands for all.
    return max(_scatter(sizes), median(map(_sampling_error, sizes)), _LEAST_DEVIATION * sizes[0].threshold)


def _has_evidence(size: Comparison) -> bool:
    return size.evidence is not None and size.evidence.basis is not Basis.NOTHING


def _logarithm(size: Comparison) -> float:
    return math.log(size.ratio)


def _deviations(sizes: Sizes) -> list[float]:
    scatter = _scatter(sizes)
    return [max(_sampling_error(each), scatter, _LEAST_DEVIATION * each.threshold) for each in sizes]


def _sampling_error(size: Comparison) -> float:
    return (size.evidence.pair.estimate.deviation or 0.0) if size.evidence is not None else 0.0


def _scatter(sizes: Sizes) -> float:
    # The scatter is that of the twin in this kind of case and timing, so it is the same for all sizes.
    evidence = sizes[0].evidence
    return evidence.noise.scatter(evidence.pair) if evidence and evidence.noise else 0.0


def _judged(parts: Sequence[Sequence[Sizes]]) -> list[list[Segment]]:
    claims = [_claim(sizes) for of_series in parts for sizes in of_series if _has_evidence(sizes[0])]
    judgements = zip(claims, judge(claims), strict=True)
    return [
        [_segment(sizes, *(next(judgements) if _has_evidence(sizes[0]) else (None, None))) for sizes in of_series]
        for of_series in parts
    ]


def _claim(sizes: Sizes) -> Claim:
    first, *others = [each.evidence for each in sizes if each.evidence is not None]
    return first.claim(sizes[0].threshold, others)


def _segment(sizes: Sizes, claim: Claim | None, judged: Judgement | None) -> Segment:
    """Return the segment of ``sizes``; without a judgement, ``sizes`` is one size, which keeps its own verdict."""
    own = sizes[0] if claim is None or judged is None else judged
    return Segment(
        sizes=sizes,
        verdict=own.verdict,
        reason=own.reason,
        interval=own.interval,
        noise_floor=sizes[0].noise_floor if claim is None else claim.noise_floor,
        pairs_needed=own.pairs_needed,
    )


def _without(sizes: Sizes, outsiders: Sequence[int]) -> Iterator[Sizes]:
    """Yield the parts of ``sizes``: each outsider alone, and the sizes between two outsiders together."""
    first = 0
    for index in outsiders:
        yield from filter(None, (sizes[first:index], sizes[index : index + 1]))
        first = index + 1
    yield from filter(None, [sizes[first:]])
