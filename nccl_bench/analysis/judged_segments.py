"""Judged segments: neighbouring sizes with similar ratios, and one verdict from the rounds of all these sizes."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from statistics import NormalDist, fmean, median

from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.judging import OpenReason, direction, judge
from nccl_bench.analysis.odd_values import deviation_of_distance, odd_distance, odd_values
from nccl_bench.analysis.segments import Series, segments
from nccl_bench.analysis.shared_arm import unconfirmed
from nccl_bench.analysis.statistics import Interval, Verdict, verdict_of

# A series or a part of it: sizes of one pair of arms, kind of case and timing, the smallest size first.
Sizes = tuple[Comparison, ...]

# Ratios of neighbouring sizes may differ by this share of the threshold, even if rounds and twin hardly vary.
_LEAST_DEVIATION = 0.05
# If a mean lies this many standard deviations beyond a limit, 98 % of all values exceed the limit.
_SURE = NormalDist().inv_cdf(0.98)
# The largest logarithm of one size's ratio. Without this limit, its exponential could overflow.
_FARTHEST = math.log(1e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Neighbouring sizes with similar ratios, and one verdict about these sizes."""

    sizes: Sizes  # the comparisons of the sizes; never empty
    verdict: Verdict | None  # the verdict; None if the variation is unknown
    reason: OpenReason | None  # the reason for `inconclusive`; None for every other verdict
    interval: Interval | None  # the interval of the ratio; None if rounds are too few
    noise_floor: float | None  # the noise floor as a share; None if it is unknown or not needed
    pairs_needed: int | None  # rounds that are needed; None if there is an interval, or if no number is enough
    ratio: float | None  # the ratio from all rounds of all sizes; None without data

    @property
    def shown_with(self) -> tuple[object, ...]:
        """A key for bands: neighbouring segments with equal keys are shown as one band."""
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
            # A size whose difference is below the noise floor does not contradict the verdict.
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
        against = self._contradicted([(each.ratio, each.ratio) for each in self.sizes]) if decided else frozenset()
        odd = odd_values([*map(_logarithm, self.sizes)], _deviation(self.sizes)) if against else []
        return sorted({*odd} & against | self._hidden())

    def _hidden(self) -> frozenset[int]:
        """Return the indices of the sizes whose own intervals or times contradict the verdict of the segment."""
        if self.verdict is Verdict.INCONCLUSIVE:
            decided = (Verdict.FASTER, Verdict.SLOWER)
            return frozenset(index for index, each in enumerate(self.sizes) if each.verdict in decided)
        intervals = [each.interval for each in self.sizes]
        hidden = self._contradicted([(each.low, each.high) if each else None for each in intervals])
        return hidden.union(
            index
            for index, each in enumerate(self.sizes)
            if each.shared is not None and self.verdict in unconfirmed([each], each.threshold)
        )

    def _contradicted(self, ranges: Sequence[tuple[float, float] | None]) -> frozenset[int]:
        """Return the indices of the ``ranges`` of ratios that the verdict of the segment excludes."""
        threshold, factor = self.sizes[0].threshold, 1 + (self.noise_floor or 0.0)
        faster, slower = 1 - threshold, 1 + threshold
        # A difference below the noise floor does not contradict a verdict.
        excluded: Mapping[Verdict | None, Callable[[float, float], bool]] = {
            Verdict.FASTER: lambda low, _: low >= faster,
            Verdict.SLOWER: lambda _, high: high <= slower,
            Verdict.EQUIVALENT: lambda low, high: high * factor < faster or low / factor > slower,
            None: lambda *_: False,
        }
        excludes = excluded[self.verdict]
        return frozenset(index for index, each in enumerate(ranges) if each and excludes(*each))


def judged_segments(series: Iterable[Sizes]) -> list[list[Segment]]:
    """Return the segments of each of ``series``. All series together share the error of one analysis.

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
    # All sizes of one analysis have the same evidence object.
    parts = [[tuple(part) for _, part in groupby(sizes, key=attrgetter("threshold", "evidence"))] for sizes in series]
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
    """Return the usual distance between the ratio of a size and the ratios of the other sizes, as a logarithm."""
    # The rounds of a single size are too few to estimate its deviation, so take the median over the sizes.
    return max(_scatter(sizes), median(_sampling_errors(sizes)), _LEAST_DEVIATION * sizes[0].threshold)


def _has_evidence(size: Comparison) -> bool:
    return size.evidence is not None and size.evidence.basis is not Basis.NOTHING


def _logarithm(size: Comparison) -> float:
    return math.log(size.ratio)


def _deviations(sizes: Sizes) -> list[float]:
    least = max(_scatter(sizes), _LEAST_DEVIATION * sizes[0].threshold)
    return [max(error, least) for error in _sampling_errors(sizes)]


def _sampling_errors(sizes: Sizes) -> list[float]:
    evidence = sizes[0].evidence
    deviations = evidence.pairs.estimates.deviations if evidence is not None else ()
    return [deviations[each.number] or 0.0 for each in sizes] if deviations else [0.0] * len(sizes)


def _scatter(sizes: Sizes) -> float:
    # The scatter comes from the twin in this kind of case and timing, so all sizes have the same scatter.
    evidence = sizes[0].evidence
    return evidence.scatter(sizes[0].number) if evidence is not None else 0.0


def _judged(parts: Sequence[Sequence[Sizes]]) -> list[list[Segment]]:
    known = [sizes for of_series in parts for sizes in of_series if _has_evidence(sizes[0])]
    segments_of_known = iter(_with_verdicts(known))
    return [
        [next(segments_of_known) if _has_evidence(sizes[0]) else _without_data(sizes) for sizes in of_series]
        for of_series in parts
    ]


def _with_verdicts(parts: Sequence[Sizes]) -> Iterator[Segment]:
    """Yield the segment of each of ``parts``, with the verdict about the ratio that its sizes have in common."""
    evidence = parts[0][0].evidence if parts else None
    if evidence is None:
        return
    claims = evidence.claims(
        [sizes[0].threshold for sizes in parts], [[each.number for each in sizes] for sizes in parts]
    )
    columns = (judge(claims), claims.noise_floors, claims.estimates.ratios)
    for sizes, judged, noise_floor, ratio in zip(parts, *columns, strict=True):
        yield Segment(
            sizes=sizes,
            verdict=judged.verdict,
            reason=judged.reason,
            interval=judged.interval,
            noise_floor=noise_floor,
            pairs_needed=judged.pairs_needed,
            ratio=ratio,
        )


def _without_data(sizes: Sizes) -> Segment:
    """Return the segment of one size without data, which keeps its own verdict."""
    (size,) = sizes
    return Segment(
        sizes=sizes,
        verdict=size.verdict,
        reason=size.reason,
        interval=size.interval,
        noise_floor=size.noise_floor,
        pairs_needed=size.pairs_needed,
        ratio=None,
    )


def _without(sizes: Sizes, outsiders: Sequence[int]) -> Iterator[Sizes]:
    """Yield the parts of ``sizes``: each outsider alone, and the sizes between two outsiders together."""
    first = 0
    for index in outsiders:
        yield from filter(None, (sizes[first:index], sizes[index : index + 1]))
        first = index + 1
    yield from filter(None, [sizes[first:]])
