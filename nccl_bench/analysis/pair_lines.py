"""Lines of the headline about one pair of arms: the bands of each verdict, in words.

A line never averages. It names the sizes of a verdict, with the smallest and the largest difference.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from nccl_bench.analysis.bands import Band, OpenReason
from nccl_bench.analysis.headline import HeadlineLine, Label
from nccl_bench.analysis.shared_arm import moved_text
from nccl_bench.analysis.statistics import Verdict
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
_Known = Mapping[Timing, Sequence[int]]
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


def pair_lines(bands: Sequence[Band], swept: Collection[int] = (), *, joined: bool = False) -> Iterator[HeadlineLine]:
    """Yield the lines of ``bands``, which are of one pair of arms and one kind of case.

    ``swept`` are all sizes that were tried, which can be more than those of the bands. With ``joined``, all timings of
    a verdict share a line.
    """
    known = {
        timing: sorted({*swept, *_sizes(band for band in bands if band.timing is timing)})
        for timing in dict.fromkeys(band.timing for band in bands)
    }
    for verdict, label in _DECIDED.items():
        decided = [band for band in bands if band.verdict is verdict]
        if joined and decided:
            parts = [f"{_where(of, known)}, {percent_range(_ratios(of))}" for of in _by_timing(decided)]
            yield HeadlineLine(label=label, timing=None, text="; ".join(parts))
            continue
        for of_timing in _by_timing(decided):
            groups = [of_timing] if len(of_timing) > _MOST_BANDS else [[band] for band in of_timing]
            yield from (_decided_line(label, group, known) for group in groups)
    same = [band for band in bands if band.verdict is Verdict.EQUIVALENT]
    if same:
        places = every_timing([_where(of_timing, known) for of_timing in _by_timing(same)])
        yield HeadlineLine(label=Label.SAME, timing=None, text=places)
    yield from open_lines(bands, known)


def open_lines(bands: Sequence[Band], known: _Known) -> Iterator[HeadlineLine]:
    """Yield a line for each reason why some of ``bands``, which are of one pair of arms, are open.

    ``known`` are the sizes of each timing.
    """
    for reason, words in _OPEN.items():
        still_open = [band for band in bands if band.verdict in (Verdict.INCONCLUSIVE, None) and band.reason is reason]
        if not still_open:
            continue
        with_change = reason not in (OpenReason.WITHIN_NOISE, OpenReason.SHARED_ARM_MOVED)
        places = [
            f"{_where(group, known)}{_change(group) if with_change else ''}"
            for of_timing in _by_timing(still_open)
            for group in (_by_direction(of_timing) if with_change else [of_timing])
        ]
        sizes = [each for band in still_open for each in band.comparisons]
        moved = moved_text(sizes) if reason is OpenReason.SHARED_ARM_MOVED else ""
        why = words.format(threshold=format_share(max(band.threshold for band in still_open)), moved=moved)
        yield HeadlineLine(label=Label.OPEN, timing=None, text=f"{every_timing(places)}: {why}")


def _decided_line(label: Label, bands: Sequence[Band], known: _Known) -> HeadlineLine:
    timing = bands[0].timing
    sizes = (size_range if len(bands) == 1 else sizes_in_short)(_sizes(bands), known[timing])
    parts = [sizes, percent_range(_ratios(bands))]
    if not any(band.has_shared_arm for band in bands):
        parts.append(saved_text([us for band in bands for us in band.saved_us], timing))
    return HeadlineLine(label=label, timing=timing, sizes=sizes, text=", ".join(parts))


def _by_timing(bands: Sequence[Band]) -> list[list[Band]]:
    """Return ``bands`` by timing, in the order of ``Timing``."""
    ordered = sorted(bands, key=lambda band: list(Timing).index(band.timing))
    return [list(of_timing) for _, of_timing in groupby(ordered, key=lambda band: band.timing)]


def _where(bands: Sequence[Band], known: _Known) -> str:
    timing = bands[0].timing
    return f"{timing} {sizes_in_short(_sizes(bands), known[timing])}"


def _by_direction(bands: Sequence[Band]) -> list[list[Band]]:
    """Return the bands of faster candidates and those of slower ones; a line never mixes the two."""
    groups = ([band for band in bands if band.ratio <= 1], [band for band in bands if band.ratio > 1])
    return sorted(filter(None, groups), key=lambda group: group[0].comparisons[0].case.size_bytes)


def _change(bands: Sequence[Band]) -> str:
    """Return the change of the bands and, in brackets, the smallest and the largest end of their intervals."""
    ends = [end for band in bands if band.interval for end in (band.interval.low, band.interval.high)]
    change = f", {change_range([band.ratio for band in bands])}"
    if not ends:
        return change
    one_sided = max(ends) <= 1 or min(ends) >= 1
    interval = percent_range(ends).removesuffix(" %") if one_sided else change_range(ends)
    # A narrow interval has one number in these digits, that of the change.
    return f"{change} ({interval})" if " to " in interval else change


def _ratios(bands: Sequence[Band]) -> list[float]:
    return [ratio for band in bands for ratio in band.ratios]


def _sizes(bands: Iterable[Band]) -> list[int]:
    return sorted({each.case.size_bytes for band in bands for each in band.comparisons})
