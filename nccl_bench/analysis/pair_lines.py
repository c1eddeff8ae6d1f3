"""Lines of the headline about one pair of arms: the bands of each verdict, in words.

A line never averages. It names the sizes of a verdict, with the smallest and the largest difference.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby

from nccl_bench.analysis.bands import Band, OpenReason
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.headline import HeadlineLine, Label
from nccl_bench.analysis.shared_arm import moved_text, own_times_text
from nccl_bench.analysis.statistics import Verdict, verdict_of
from nccl_bench.analysis.wording import (
    change_range,
    every_timing,
    format_share,
    percent_range,
    saved_text,
    size_range,
    size_with_unit,
    sizes_in_short,
)
from nccl_bench.catalog.timings import Timing

# With more bands of one verdict in one timing, one line names all their sizes.
_MOST_BANDS = 2
# With more sizes than this, a line names the slowest one.
_FEW_SIZES = 2
# If the change of a size is so many times that of its band, a line names the size.
_MUCH_MORE = 1.2
# The sizes of each timing.
KnownSizes = Mapping[Timing, Sequence[int]]
_DECIDED = {Verdict.FASTER: Label.FASTER, Verdict.SLOWER: Label.SLOWER}
# What the user should know about an open band, by the reason, to be put behind its sizes and change.
_OPEN: Mapping[OpenReason | None, str] = {
    OpenReason.BELOW_THRESHOLD: ": may be under {threshold}",
    OpenReason.WITHIN_NOISE: ": within noise",
    OpenReason.TOO_FEW_ROUNDS: ": too few rounds",
    OpenReason.NO_TWIN: ": no twin was measured, so the noise is unknown",
    OpenReason.DIFFERENT_PROCESSES: ": the arms ran in different processes, whose CPU speeds differ",
    OpenReason.ONE_LAUNCH: ": only one launch has times of both arms",
    OpenReason.SHARED_ARM_MOVED: "",
    None: ": no verdict, because nobody knows how much the times vary",
}


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
        places = every_timing([f"{_where(of_timing, known)}{_odd_size(of_timing)}" for of_timing in _by_timing(same)])
        yield HeadlineLine(label=Label.SAME, timing=None, text=places)


def open_places(bands: Sequence[Band], known: KnownSizes, *, with_change: bool = True) -> Iterator[tuple[str, str]]:
    """Yield the open sizes of ``bands``, which are of one pair of arms, and in words why they are open.

    The reason is empty if the text of the sizes has it. Sizes whose change is known are divided by timing and
    direction. Without ``with_change``, the sizes of a reason stand together and have no differences.
    """
    for reason, words in _OPEN.items():
        still_open = [band for band in bands if is_open(band) and band.reason is reason]
        if not still_open:
            continue
        by_timing = _by_timing(still_open)
        why = words.format(threshold=format_share(max(band.threshold for band in still_open)))
        if reason is OpenReason.SHARED_ARM_MOVED:
            yield from _moved_places(by_timing, known)
        elif reason is OpenReason.WITHIN_NOISE or not with_change:
            noise = _noise_alone(still_open) if reason is OpenReason.WITHIN_NOISE else ""
            yield every_timing([_where(of_timing, known) for of_timing in by_timing]), f"{why}{noise}"
        else:
            for group in chain.from_iterable(map(_by_direction, by_timing)):
                place = f"{_where(group, known)}, {_change(group)}"
                if reason is OpenReason.BELOW_THRESHOLD:
                    # The change, the noise and the limit say it all.
                    yield f"{place}, limit {format_share(group[0].threshold)}", ""
                else:
                    yield place, why


def _noise_alone(bands: Sequence[Band]) -> str:
    """Return the noise floor of ``bands``, if it alone withholds the verdict that they are the same."""
    alone = all(verdict_of(band.interval, band.threshold) is Verdict.EQUIVALENT for band in bands)
    floor = max(band.noise_floor or 0.0 for band in bands)
    return f" of {format_share(floor)}" if alone and floor else ""


def _moved_places(by_timing: Iterable[Sequence[Band]], known: KnownSizes) -> Iterator[tuple[str, str]]:
    """Yield the sizes between whose two sides the machine changed: those at which the shared arm shows it first."""
    for of_timing in by_timing:
        timing = of_timing[0].timing
        groups: dict[bool, list[Comparison]] = {False: [], True: []}
        for each in chain.from_iterable(band.comparisons for band in of_timing):
            groups[each.shared is not None and each.shared.cpu_factors is not None].append(each)
        for group in filter(None, groups.values()):
            sizes = sorted(each.case.size_bytes for each in group)
            yield f"{timing} {sizes_in_short(sizes, known[timing])}: {moved_text(group)}", ""


def _differences(bands: Sequence[Band], *, with_time: bool) -> Iterator[str]:
    """Yield the change of ``bands``, which are of one timing, and what it means in microseconds."""
    change = percent_range([ratio for band in bands for ratio in band.ratios])
    names_most = bands[0].verdict is Verdict.SLOWER and comparisons_of(bands) > _FEW_SIZES and " to " in change
    yield f"{change}, most at {size_with_unit(_farthest(bands).case.size_bytes)}" if names_most else change
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
    """Return the change of ``bands``, that of the size with the largest one, and the noise.

    Without a noise floor, the smallest and the largest end of the intervals stand in brackets.
    """
    ratios = [band.ratio for band in bands]
    change = change_range(ratios)
    ends = [end for band in bands if band.interval for end in (band.interval.low, band.interval.high)]
    floors = [band.noise_floor for band in bands if band.noise_floor]
    if ends and not floors:
        one_sided = max(ends) <= 1 or min(ends) >= 1
        interval = percent_range(ends).removesuffix(" %") if one_sided else change_range(ends)
        # A narrow interval has one number in these digits, that of the change.
        change += f" ({interval})" if " to " in interval else ""
    most = _farthest(bands)
    # `ratios` and `most` can lie on different sides of 1: then no line about this direction names the size.
    if (most.ratio > 1) == (ratios[0] > 1) and abs(most.ratio - 1) > _MUCH_MORE * max(abs(each - 1) for each in ratios):
        change += f", up to {percent_range([most.ratio])} at {size_with_unit(most.case.size_bytes)}"
    return f"{change}, noise {format_share(max(floors))}" if floors else change


def _odd_size(bands: Sequence[Band]) -> str:
    """Return the size with the largest change, if it is beyond the threshold although its band is the same."""
    odd = _farthest(bands)
    if not any(band.is_odd for band in bands):
        return ""
    return f" ({size_with_unit(odd.case.size_bytes)}: {change_range([odd.ratio])})"


def _farthest(bands: Iterable[Band]) -> Comparison:
    """Return the comparison with the largest change."""
    return max((band.farthest for band in bands), key=lambda each: abs(each.ratio - 1))


def _sizes(bands: Iterable[Band]) -> list[int]:
    return sorted({each.case.size_bytes for band in bands for each in band.comparisons})
