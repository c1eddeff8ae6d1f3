"""Lines of the headline about one pair of arms: the bands of each verdict, in words.

A line never averages. It names the sizes of a verdict, with the smallest and the largest difference.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from nccl_bench.analysis.bands import Band, OpenReason
from nccl_bench.analysis.headline import HeadlineLine, Label
from nccl_bench.analysis.shared_arm import moved_text, own_times_text
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.verdict_words import noise_hides_the_rest
from nccl_bench.analysis.wording import (
    change_range,
    every_timing,
    format_share,
    percent_range,
    saved_text,
    size_range,
    sizes_in_short,
)
from nccl_bench.catalog.timings import Timing

# With more bands of one verdict in one timing, one line names all their sizes.
_MOST_BANDS = 2
# The sizes of each timing.
KnownSizes = Mapping[Timing, Sequence[int]]
_DECIDED = {Verdict.FASTER: Label.FASTER, Verdict.SLOWER: Label.SLOWER}
# What the user should know about an open band, by the reason.
_OPEN: Mapping[OpenReason | None, str] = {
    OpenReason.BELOW_THRESHOLD: "may be under {threshold}",
    OpenReason.WITHIN_NOISE: "within noise",
    OpenReason.TOO_FEW_ROUNDS: "too few rounds",
    OpenReason.NO_TWIN: "no twin was measured, so the noise is unknown",
    OpenReason.DIFFERENT_PROCESSES: "the arms ran in different processes, whose CPU speeds differ",
    OpenReason.ONE_LAUNCH: "only one launch has times of both arms",
    OpenReason.SHARED_ARM_MOVED: "{moved}",
    None: "no verdict, because nobody knows how much the times vary",
}
# The reasons for which the line says no change: it is unknown, or it is in the reason.
_WITHOUT_CHANGE = frozenset({OpenReason.WITHIN_NOISE, OpenReason.SHARED_ARM_MOVED})


def known_sizes(bands: Iterable[Band], swept: Collection[int] = ()) -> KnownSizes:
    """Return the sizes of each timing; ``swept`` are sizes that were tried, of which ``bands`` can have fewer."""
    of_timings: dict[Timing, set[int]] = {}
    for band in bands:
        of_timings.setdefault(band.timing, {*swept}).update(_sizes([band]))
    return {timing: sorted(sizes) for timing, sizes in of_timings.items()}


def is_open(band: Band) -> bool:
    """Return True if ``band`` is not decided."""
    return band.verdict in (Verdict.INCONCLUSIVE, None)


def comparisons_of(bands: Iterable[Band]) -> int:
    """Return the number of comparisons in ``bands``: a comparison is one size of a pair of arms in one timing."""
    return sum(len(band.comparisons) for band in bands)


def share_of(some: Iterable[Band], bands: Iterable[Band]) -> str:
    """Return how many comparisons of ``bands`` are in ``some`` of them: all 32 comparisons, 2 of 32 comparisons."""
    number, of_all = comparisons_of(some), comparisons_of(bands)
    if number == of_all:
        return f"all {of_all} comparisons" if of_all > 1 else "the only comparison"
    return f"{number} of {of_all} comparisons"


def decided_lines(
    bands: Sequence[Band], verdict: Verdict, known: KnownSizes, *, joined: bool = False, with_time: bool = True
) -> Iterator[HeadlineLine]:
    """Yield the lines of ``verdict``, faster or slower; ``bands`` are of one pair of arms and one kind of case.

    With ``joined``, all timings share a line. Without ``with_time``, the line has no microseconds.
    """
    decided = [band for band in bands if band.verdict is verdict]
    label = _DECIDED[verdict]
    if joined and decided:
        parts = [
            ", ".join([_where(of_timing, known), *_differences(of_timing, with_time=with_time)])
            for of_timing in _by_timing(decided)
        ]
        yield HeadlineLine(label=label, timing=None, text="; ".join(parts))
        return
    for of_timing in _by_timing(decided):
        for group in [of_timing] if len(of_timing) > _MOST_BANDS else [[band] for band in of_timing]:
            timing = group[0].timing
            sizes = (size_range if len(group) == 1 else sizes_in_short)(_sizes(group), known[timing])
            text = ", ".join([sizes, *_differences(group, with_time=with_time)])
            yield HeadlineLine(label=label, timing=timing, sizes=sizes, text=text)


def same_lines(bands: Sequence[Band], known: KnownSizes) -> Iterator[HeadlineLine]:
    """Yield the line of the sizes at which one pair of arms is the same."""
    same = [band for band in bands if band.verdict is Verdict.EQUIVALENT]
    if same:
        places = every_timing([_where(of_timing, known) for of_timing in _by_timing(same)])
        yield HeadlineLine(label=Label.SAME, timing=None, text=places)


def open_places(bands: Sequence[Band], known: KnownSizes, *, with_change: bool = True) -> Iterator[tuple[str, str]]:
    """Yield, for each reason why some of ``bands`` of one pair of arms are open, their sizes and the reason in words.

    Without ``with_change``, the sizes have no differences.
    """
    for reason, words in _OPEN.items():
        still_open = [band for band in bands if is_open(band) and band.reason is reason]
        if not still_open:
            continue
        changes = with_change and reason not in _WITHOUT_CHANGE
        places = [
            f"{_where(group, known)}{_change(group) if changes else ''}"
            for of_timing in _by_timing(still_open)
            for group in (_by_direction(of_timing) if changes else [of_timing])
        ]
        sizes = [each for band in still_open for each in band.comparisons]
        moved = moved_text(sizes) if reason is OpenReason.SHARED_ARM_MOVED else ""
        why = words.format(threshold=format_share(max(band.threshold for band in still_open)), moved=moved)
        yield every_timing(places), why


def _differences(bands: Sequence[Band], *, with_time: bool) -> Iterator[str]:
    """Yield the change of ``bands``, which are of one timing, and what it means in microseconds."""
    yield percent_range([ratio for band in bands for ratio in band.ratios])
    if not with_time:
        return
    if any(band.has_shared_arm for band in bands):
        # The ratio is not that of the arm's own times, so only these say how long a call takes.
        yield own_times_text([each for band in bands for each in band.comparisons])
    else:
        yield saved_text([us for band in bands for us in band.saved_us], bands[0].timing)


def _by_timing(bands: Sequence[Band]) -> list[list[Band]]:
    """Return ``bands`` by timing, in the order of ``Timing``."""
    ordered = sorted(bands, key=lambda band: list(Timing).index(band.timing))
    return [list(of_timing) for _, of_timing in groupby(ordered, key=lambda band: band.timing)]


def _where(bands: Sequence[Band], known: KnownSizes) -> str:
    timing = bands[0].timing
    return f"{timing} {sizes_in_short(_sizes(bands), known[timing])}"


def _by_direction(bands: Sequence[Band]) -> list[list[Band]]:
    """Return the bands of faster candidates and those of slower ones; a line never mixes the two."""
    groups = ([band for band in bands if band.ratio <= 1], [band for band in bands if band.ratio > 1])
    return sorted(filter(None, groups), key=lambda group: group[0].comparisons[0].case.size_bytes)


def _change(bands: Sequence[Band]) -> str:
    """Return the change of the bands and, in brackets, the smallest and the largest end of their intervals.

    If the intervals alone would decide, the noise is named that does not let them.
    """
    change = f", {change_range([band.ratio for band in bands])}"
    ends = [end for band in bands if band.interval for end in (band.interval.low, band.interval.high)]
    if ends:
        one_sided = max(ends) <= 1 or min(ends) >= 1
        interval = percent_range(ends).removesuffix(" %") if one_sided else change_range(ends)
        # A narrow interval has one number in these digits, that of the change.
        change += f" ({interval})" if " to " in interval else ""
    if hidden := [band.noise_floor or 0.0 for band in bands if noise_hides_the_rest(band)]:
        change += f" minus noise of up to {format_share(max(hidden))}"
    return change


def _sizes(bands: Iterable[Band]) -> list[int]:
    return sorted({each.case.size_bytes for band in bands for each in band.comparisons})
