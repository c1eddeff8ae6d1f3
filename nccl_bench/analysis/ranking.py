"""Lines of the headline about several arms of one run: which arm is the fastest at which sizes.

All intervals of an analysis are right together, with the confidence of the analysis. So two arms differ if the gap
between their intervals against the baseline is larger than the threshold and the noise floor. No other test is needed.
An arm is called one of the fastest only if its own verdict against the baseline is decided.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

import msgspec

from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.headline import HeadlineLine, Label
from nccl_bench.analysis.pair_lines import KnownSizes
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.wording import (
    Difference,
    joined,
    opposite_text,
    percent_range,
    saved_text,
    sizes_in_short,
)
from nccl_bench.catalog.timings import Timing

# The rank of an arm by its verdict against the baseline. An arm with an open verdict has no rank.
_RANKS: Mapping[Verdict | None, int] = {Verdict.FASTER: -1, Verdict.EQUIVALENT: 0, Verdict.SLOWER: 1}


class _Entry(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An arm at one size."""

    arm: str  # the arm
    ratio: float  # its time / the baseline's time
    low: float  # the lower end of its interval
    high: float  # the upper end of its interval
    rank: int | None  # its rank by its verdict; None if the verdict is open
    margin: float  # the threshold or the noise floor, whichever is larger
    saved_us: float  # the time that it saves compared with the baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Neighbouring sizes with the same fastest arms."""

    sizes: tuple[int, ...]  # the sizes
    entries: tuple[tuple[_Entry, ...], ...]  # the arms at each size, the fastest first
    fastest: frozenset[str]  # the fastest arm with a verdict, and the arms with a verdict that do not differ from it
    still_open: Mapping[str, tuple[int, ...]]  # the arms with an open verdict that can be as fast, with their sizes

    def has_a_winner(self, baseline: str) -> bool:
        """Return True if a candidate beats ``baseline``, or if ``baseline`` beats all candidates with a verdict."""
        if baseline not in self.fastest:
            return True
        return len(self.fastest) == 1 and len(self.still_open) < len(self.entries[0]) - 1


def fastest_lines(bands: Sequence[Band], known_sizes: KnownSizes) -> Iterator[HeadlineLine]:
    """Yield the fastest arms of each timing, where they differ from the others or from the baseline.

    ``bands`` are of several candidates and one kind of case.
    """
    baseline = bands[0].baseline
    arms = (*dict.fromkeys(band.candidate for band in bands), baseline)
    for timing in Timing:
        of_timing = [band for band in bands if band.timing is timing]
        places = [place for place in _places(of_timing, baseline) if place.has_a_winner(baseline)]
        for place in _with_the_same_fastest(places):
            known = known_sizes[timing]
            sizes = sizes_in_short(place.sizes, known)
            text = f"{sizes}, {_in_words(place, arms, timing)}{_open_arms(place, arms, known)}"
            yield HeadlineLine(label=Label.FASTEST, timing=timing, sizes=sizes, text=text)


def _places(bands: Sequence[Band], baseline: str) -> Iterator[_Place]:
    """Yield the places of one timing. Neighbouring sizes with the same bands of all arms share a place."""
    by_size: dict[int, list[tuple[int, _Entry]]] = {}
    for number, band in enumerate(bands):
        for each in band.comparisons:
            # Without an interval, the arm can be as fast as any other arm.
            low, high = (each.interval.low, each.interval.high) if each.interval else (0.0, math.inf)
            entry = _Entry(
                arm=band.candidate,
                ratio=each.ratio,
                low=low,
                high=high,
                rank=_RANKS.get(band.verdict),
                margin=max(each.threshold, band.noise_floor or 0),
                saved_us=each.saved_us,
            )
            by_size.setdefault(each.case.size_bytes, []).append((number, entry))
    of_baseline = _Entry(arm=baseline, ratio=1, low=1, high=1, rank=0, margin=0, saved_us=0)
    places: list[_Place] = []
    for _, group in groupby(sorted(by_size), key=lambda size: [pair[0] for pair in by_size[size]]):
        sizes = tuple(group)
        entries = tuple(
            tuple(sorted((of_baseline, *(entry for _, entry in by_size[size])), key=lambda entry: entry.ratio))
            for size in sizes
        )
        place = _place(sizes, entries, baseline)
        if places and (places[-1].fastest, places[-1].has_a_winner(baseline)) == (
            place.fastest,
            place.has_a_winner(baseline),
        ):
            place = _joined(places.pop(), place)
        places.append(place)
    yield from places


def _place(sizes: tuple[int, ...], entries: tuple[tuple[_Entry, ...], ...], baseline: str) -> _Place:
    """Return the place of ``sizes``. Its fastest arms do not differ from the fastest arm at the majority of sizes."""
    by_arm: dict[str, list[_Entry]] = {}
    for of_size in entries:
        for entry in of_size:
            by_arm.setdefault(entry.arm, []).append(entry)
    # The sizes of a place are in the same bands. So an arm has the same rank at all of them.
    decided = [arm for arm in by_arm if by_arm[arm][0].rank is not None]
    first = min(decided, key=lambda arm: median(entry.ratio for entry in by_arm[arm]))

    def apart(arm: str) -> bool:
        pairs = zip(by_arm[first], by_arm[arm], strict=True)
        return 2 * sum(_told_apart(fast, other, baseline) for fast, other in pairs) > len(by_arm[arm])

    near = [arm for arm in by_arm if arm == first or not apart(arm)]
    return _Place(
        sizes=sizes,
        entries=entries,
        fastest=frozenset(arm for arm in near if arm in decided),
        still_open={arm: sizes for arm in near if arm not in decided},
    )


def _joined(before: _Place, after: _Place) -> _Place:
    arms = dict.fromkeys((*before.still_open, *after.still_open))
    return _Place(
        sizes=before.sizes + after.sizes,
        entries=before.entries + after.entries,
        fastest=before.fastest,
        still_open={arm: before.still_open.get(arm, ()) + after.still_open.get(arm, ()) for arm in arms},
    )


def _told_apart(fast: _Entry, other: _Entry, baseline: str) -> bool:
    """Return True if it is certain that ``other`` is slower than ``fast`` by more than the margin."""
    if fast.rank is not None and other.rank is not None and fast.rank != other.rank:
        return fast.rank < other.rank
    # The verdict of an arm against the baseline is its only comparison with the baseline.
    if baseline in (fast.arm, other.arm) or fast.rank == other.rank == 0:
        return False
    return other.low > fast.high * (1 + max(fast.margin, other.margin))


def _with_the_same_fastest(places: Sequence[_Place]) -> list[_Place]:
    """Return ``places``, but join all places with the same fastest arms, even if these are not neighbours."""
    by_fastest: dict[frozenset[str], _Place] = {}
    for place in places:
        before = by_fastest.get(place.fastest)
        by_fastest[place.fastest] = _joined(before, place) if before else place
    return list(by_fastest.values())


def _in_words(place: _Place, arms: Sequence[str], timing: Timing) -> str:
    """Return the fastest arms and how much faster they are than the baseline, which is the last of ``arms``."""
    *_, baseline = arms
    text = joined([arm for arm in arms if arm in place.fastest])
    best = [
        min((each for each in of_size if each.arm in place.fastest), key=lambda each: each.ratio)
        for of_size in place.entries
    ]
    if baseline not in place.fastest:
        sizes = [Difference(size, entry.ratio, entry.saved_us) for size, entry in zip(place.sizes, best, strict=True)]
        if opposite := opposite_text(sizes, timing):
            return f"{text}, {opposite} under {baseline}"
        saved = saved_text([entry.saved_us for entry in best], timing)
        return f"{text}, {percent_range([entry.ratio for entry in best])} under {baseline}, {saved}"
    following = [
        [each for each in of_size if each.arm != baseline and each.arm not in place.still_open]
        for of_size in place.entries
    ]
    names = {of_size[0].arm for of_size in following if of_size}
    if text == baseline and len(names) == 1:
        more = [of_size[0].ratio for of_size in following if of_size]
        return f"{text}; next is {names.pop()}, {percent_range(more)} slower"
    return text


def _open_arms(place: _Place, arms: Sequence[str], known: Sequence[int]) -> str:
    """Return the open arms that can be as fast as the fastest; with sizes, unless an arm has all sizes of the place."""
    texts = [
        arm if sizes == place.sizes else f"{arm} {sizes_in_short(sizes, known)}"
        for arm in arms
        if (sizes := place.still_open.get(arm))
    ]
    return f"; open: {joined(texts)}" if texts else ""
