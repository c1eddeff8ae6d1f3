"""Bands: neighbouring sizes of one pair of arms and one timing that are shown together, with a verdict of their own.

How bands are made:

1. Neighbouring sizes form a segment if their ratios differ no more than rounds and communicator variance explain.
2. A segment is judged by the rule for a single size. The ratio of the segment comes from the rounds of all its sizes.
   The noise floor of the segment comes from the twin's ratios over the same number of sizes.
3. A size leaves its segment if its own interval excludes the verdict of the segment, or if the size is faster or slower
   and the segment is inconclusive. It then is a segment of its own.
4. A size also leaves its segment if its ratio contradicts the verdict of the segment, and if the ratio is unusually far
   from the mean of the other sizes. The usual distance is the largest of three: that of the twin's ratios, that of the
   rounds, and that of the sizes themselves. The test is corrected (Bonferroni) for the number of sizes.
5. Neighbouring segments with the same verdict, for the same reason, form a band.

``python -m tests.experiments.bands`` shows how often the verdicts of bands are right.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby
from operator import itemgetter

from nccl_bench.analysis.cells import Point
from nccl_bench.analysis.comparable import without_size
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.judged_segments import Segment, Sizes, judged_segments
from nccl_bench.analysis.judging import OpenReason, direction, nearer
from nccl_bench.analysis.paired_ratios import median_ratio
from nccl_bench.analysis.statistics import Interval, Verdict
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing

__all__ = ["Band", "OpenReason", "bands_of"]


# No slots: the instance keeps what its cached properties have computed.
@dataclass(frozen=True, kw_only=True)
class Band:
    """Neighbouring sizes of one pair of arms and one timing, with one verdict."""

    comparisons: tuple[Comparison, ...]  # the comparisons of the sizes, the smallest size first; never empty
    verdict: Verdict | None  # the verdict of the band; None if the variation is unknown
    reason: OpenReason | None  # the reason for `inconclusive`; None for every other verdict
    ratio: float  # the ratio of the band, from all rounds of all its sizes
    interval: Interval | None  # the interval of the band's ratio; None if rounds are too few
    # The noise floor as a share. If the verdict is faster or slower, it is that of the segment nearest to 1; otherwise
    # it is the largest of all segments. None if it is unknown or not needed.
    noise_floor: float | None
    pairs_needed: int | None  # rounds that are needed; None if there is an interval, or if no number is enough
    # The largest change of one size alone that can stay hidden, as a share of the ratio of its neighbours. None if the
    # verdict is open, if the band has one size, or if a size that contradicts the verdict cannot stay hidden.
    hidden_change: float | None

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
        """``FASTER`` or ``SLOWER`` if the direction is sure, even below the threshold; otherwise ``None``."""
        sure = self.reason in (None, OpenReason.BELOW_THRESHOLD)
        return direction(self.interval, self.noise_floor) if sure else None

    @cached_property
    def ratios(self) -> tuple[float, float]:
        """The smallest and the largest ratio of a size."""
        ratios = [each.ratio for each in self.comparisons]
        return min(ratios), max(ratios)

    @cached_property
    def farthest(self) -> Comparison:
        """The comparison of the size with the largest change."""
        return max(self.comparisons, key=lambda each: abs(each.ratio - 1))

    @property
    def is_odd(self) -> bool:
        """True if the verdict of the band is ``equivalent`` although the ratio of one size is beyond the threshold."""
        return self.verdict is Verdict.EQUIVALENT and abs(self.farthest.ratio - 1) > self.threshold

    @cached_property
    def has_shared_arm(self) -> bool:
        """True if all times were divided by the times of a shared arm before the ratios were computed."""
        return any(each.shared is not None for each in self.comparisons)

    @cached_property
    def saved_us(self) -> tuple[float, float]:
        """The smallest and the largest time saved at a size, microseconds a call; negative for a slower candidate."""
        saved = [each.saved_us for each in self.comparisons]
        return min(saved), max(saved)


def bands_of(comparisons: Sequence[Comparison]) -> tuple[Band, ...]:
    """Return the bands of ``comparisons``, by pair of arms, kind of case, timing and placements, then size.

    With probability 1 - ``FAMILYWISE_ERROR`` or more, no verdict of a band is wrong. A comparison without evidence
    keeps its own verdict. A band ends where the sweep has a size that the pair of arms lacks.
    """
    series: dict[tuple[object, ...], list[Comparison]] = {}
    for each in comparisons:
        kind = (each.baseline, each.candidate, each.case.kind, each.timing, each.placements)
        series.setdefault(kind, []).append(each)
    ordered = [tuple(sorted(of_series, key=_size_bytes)) for of_series in series.values()]
    swept = _swept(comparisons)
    return tuple(
        band
        for of_series in judged_segments(ordered)
        for band in _bands(of_series, swept[of_series[0].sizes[0].case.kind])
    )


def _size_bytes(comparison: Comparison) -> int:
    return comparison.case.size_bytes


def _swept(comparisons: Sequence[Comparison]) -> dict[Case, list[int]]:
    """Return all sizes of each kind of case, in order."""
    sizes: dict[Case, set[int]] = {}
    for case in {id(each.case): each.case for each in comparisons}.values():
        sizes.setdefault(case.kind, set()).add(case.size_bytes)
    return {kind: sorted(of_kind) for kind, of_kind in sizes.items()}


def _bands(of_series: Sequence[Segment], swept: Sequence[int]) -> Iterator[Band]:
    # The sizes of the series that follow each other in `swept` have the same difference of indices.
    pieces: list[tuple[object, Segment, Sizes]] = []
    count = 0
    for segment in of_series:
        gaps = [bisect_right(swept, _size_bytes(size)) - index for index, size in enumerate(segment.sizes, count)]
        count += len(gaps)
        for gap, neighbours in groupby(zip(gaps, segment.sizes, strict=True), key=itemgetter(0)):
            pieces.append(((segment.shown_with, gap), segment, tuple([size for _, size in neighbours])))
    for _, together in groupby(pieces, key=itemgetter(0)):
        of_band = [piece[1:] for piece in together]
        yield _band([segment for segment, _ in of_band], tuple(chain.from_iterable(sizes for _, sizes in of_band)))


def _band(of_band: Sequence[Segment], sizes: Sizes) -> Band:
    intervals = [segment.interval for segment in of_band if segment.interval]
    needed = [segment.pairs_needed for segment in of_band if segment.pairs_needed is not None]
    return Band(
        comparisons=sizes,
        verdict=of_band[0].verdict,
        reason=of_band[0].reason,
        ratio=_ratio(of_band, sizes),
        interval=Interval(
            low=min(each.low for each in intervals),
            high=max(each.high for each in intervals),
            error=min(1.0, sum(each.error for each in intervals)),
        )
        if intervals
        else None,
        noise_floor=_noise_floor(of_band),
        pairs_needed=max(needed, default=None),
        hidden_change=max((change for each in of_band if (change := each.hidden_change) is not None), default=None),
    )


def _noise_floor(of_band: Sequence[Segment]) -> float | None:
    """Return the noise floor that decides the verdict: for faster and slower, that of the segment nearest to 1."""
    known = [segment for segment in of_band if segment.noise_floor is not None]
    if of_band[0].verdict in (Verdict.FASTER, Verdict.SLOWER):
        known = sorted(known, key=_distance)[:1]
    return max((segment.noise_floor or 0.0 for segment in known), default=None)


def _distance(segment: Segment) -> float:
    """Return the logarithmic distance between 1 and a decided segment's interval, less the noise floor."""
    near = nearer(segment.interval, segment.noise_floor)
    return 0.0 if near is None else min(abs(math.log(near.low)), abs(math.log(near.high)))


def _ratio(of_band: Sequence[Segment], sizes: Sizes) -> float:
    """Return the ratio from all rounds of all ``sizes``."""
    evidence, own = sizes[0].evidence, of_band[0].ratio
    if evidence is None:
        return median_ratio([each.ratio for each in sizes])
    if own is not None and of_band[0].sizes == sizes:
        return own
    return evidence.pairs.estimates.pooled([[each.number for each in sizes]]).ratios[0]
