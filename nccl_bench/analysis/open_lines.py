"""Lines of the headline about what is open in one kind of case, and why it is open."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from nccl_bench.analysis.bands import Band, OpenReason
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.headline import HeadlineLine, Label
from nccl_bench.analysis.judging import nearer
from nccl_bench.analysis.pair_lines import (
    KnownSizes,
    Pairs,
    by_timing,
    chosen,
    comparisons_of,
    farthest,
    is_open,
    known_sizes,
    share_of,
    sizes_of,
    where,
)
from nccl_bench.analysis.shared_arm import moved_text, what_moved
from nccl_bench.analysis.statistics import Verdict, verdict_of
from nccl_bench.analysis.verdict_words import WHY_OPEN
from nccl_bench.analysis.wording import (
    change_range,
    every_timing,
    format_share,
    joined,
    percent_range,
    size_with_unit,
    sizes_in_short,
)
from nccl_bench.catalog.timings import Timing

# Reason -> the words about the comparisons that are open for this reason. Their number stands before.
_WHICH: Mapping[OpenReason | None, str] = {
    OpenReason.BELOW_THRESHOLD: "{differ}, but not surely by {threshold}",
    OpenReason.WITHIN_NOISE: "{are} within noise (times vary by more than the difference)",
    OpenReason.TOO_FEW_ROUNDS: "{have} too few rounds",
    OpenReason.NO_TWIN: "{have} no twin, so the noise is unknown",
    OpenReason.DIFFERENT_PROCESSES: "{are} of different processes, whose CPU speeds differ",
    OpenReason.ONE_LAUNCH: "{have} times of both arms in one launch only",
    OpenReason.SHARED_ARM_MOVED: "{are} not comparable{because}",
    None: "{have} no verdict, because the variation of the times is unknown",
}
# The reasons that matter more than the change of each size. Pairs of arms with such a reason share a line.
_SHARED = (OpenReason.WITHIN_NOISE, OpenReason.SHARED_ARM_MOVED)
# A line names a size if its change is more than this many times the change of its band.
_MUCH_MORE = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenLine:
    """The open sizes of a line."""

    timing: Timing | None = None  # the timing; None if `places` names it
    reason: str  # the reason why the sizes are open, in words
    places: str  # the sizes, and their changes if these matter
    with_reason: str  # `places` with the reason


def open_answers(pairs: Pairs, swept: Collection[int], *, brief: bool, counts: bool) -> Iterator[HeadlineLine]:
    """Yield the open lines of ``pairs``, the bands of each pair of arms by its name; all are of one kind of case.

    ``swept`` are all sizes that were tried. With ``brief``, lines have no differences. With ``counts``, the first line
    counts the comparisons that are open.
    """
    bands = list(chain.from_iterable(pairs.values()))
    known = known_sizes(bands, swept)
    lines = [
        line
        for reason in WHY_OPEN
        if (of_pairs := _open_for(reason, pairs))
        for line in _lines_of(reason, of_pairs, len(pairs), known, brief=brief)
    ]
    count = _count_text(bands) if counts and lines else ""
    if len(lines) == 1 and count:
        yield _line(f"{count}: {' '.join(filter(None, (lines[0].timing, lines[0].places)))}")
        return
    if count:
        yield _line(count)
    # True if all lines have one reason and the line with the count names it.
    known_reason = bool(count) and len({line.reason for line in lines}) == 1
    yield from (_line(line.places if known_reason else line.with_reason, line.timing) for line in lines)


def count_of_open(bands: Sequence[Band]) -> Iterator[HeadlineLine]:
    """Yield a line with the numbers of open comparisons and their reasons, if any is open."""
    if any(map(is_open, bands)):
        yield _line(_count_text(bands))


def _line(text: str, timing: Timing | None = None) -> HeadlineLine:
    return HeadlineLine(label=Label.OPEN, timing=timing, text=text)


def _count_text(bands: Sequence[Band]) -> str:
    still_open = [band for band in bands if is_open(band)]
    by_reason = {reason: [band for band in still_open if band.reason is reason] for reason in _WHICH}
    texts = [
        (comparisons_of(of_reason), _which(reason, of_reason, alone=len(of_reason) == len(still_open)))
        for reason, of_reason in by_reason.items()
        if of_reason
    ]
    share = share_of(still_open, bands)
    if len(texts) == 1:
        return f"{share} {texts[0][1]}"
    by_number = sorted(texts, key=lambda text: -text[0])
    return f"{share}: {'; '.join(f'{number} {which}' for number, which in by_number)}"


def _which(reason: OpenReason | None, bands: Sequence[Band], *, alone: bool) -> str:
    """Return the words of `_WHICH` about ``bands``, which are open for ``reason``.

    Beside other reasons, only the lines below say what changed; ``alone`` is True if there are none.
    """
    number = comparisons_of(bands)
    return _WHICH[reason].format(
        threshold=_limits(bands),
        because=f", because {_moved(bands)} changed" if alone else "",
        differ="differs" if number == 1 else "differ",
        are="is" if number == 1 else "are",
        have="has" if number == 1 else "have",
    )


def _open_for(reason: OpenReason | None, pairs: Pairs) -> Pairs:
    """Return the bands of each pair that are open for ``reason``; pairs without such bands are absent."""
    return chosen(pairs, lambda band: is_open(band) and band.reason is reason)


def _lines_of(
    reason: OpenReason | None, of_pairs: Pairs, number_of_pairs: int, known: KnownSizes, *, brief: bool
) -> Iterator[_OpenLine]:
    """Yield the lines of the bands ``of_pairs``, which are open for ``reason``.

    The headline has ``number_of_pairs`` pairs. See `open_answers` about ``brief``.
    """
    if len(of_pairs) > 1 and (brief or reason in _SHARED):
        why = _why(reason, list(chain.from_iterable(of_pairs.values())))
        places = _places_of_pairs(of_pairs, number_of_pairs, known)
        if brief:
            yield _line_of_pairs(why, "; ".join(f"{timing} ({text})" for timing, text in places.items()))
        else:
            yield from (_line_of_pairs(why, text, timing) for timing, text in places.items())
        return
    for name, of_pair in of_pairs.items():
        why = _why(reason, of_pair)
        for place, has_reason in _places(reason, of_pair, known, brief=brief):
            text = f"{name}: {place}" if number_of_pairs > 1 else place
            yield _OpenLine(reason=why, places=text, with_reason=text if has_reason else f"{text}: {why}")


def _line_of_pairs(reason: str, places: str, timing: Timing | None = None) -> _OpenLine:
    """Return a line that several pairs share."""
    return _OpenLine(timing=timing, reason=reason, places=places, with_reason=f"{reason}: {places}")


def _why(reason: OpenReason | None, bands: Sequence[Band]) -> str:
    """Return in words why ``bands`` are open; all of these bands have the same ``reason``."""
    noise = _noise_alone(bands) if reason is OpenReason.WITHIN_NOISE else ""
    return f"{WHY_OPEN[reason].format(threshold=_limits(bands), moved=_moved(bands))}{noise}"


def _limits(bands: Sequence[Band]) -> str:
    return percent_range([1 + band.threshold for band in bands])


def _moved(bands: Sequence[Band]) -> str:
    return what_moved([each for band in bands for each in band.comparisons])


def _places_of_pairs(of_pairs: Pairs, number_of_pairs: int, known: KnownSizes) -> Mapping[Timing, str]:
    """Return for each timing the names of the pairs and their sizes."""
    names: dict[Timing, dict[str, list[str]]] = {}
    for name, bands in of_pairs.items():
        for of_timing in by_timing(bands):
            timing = of_timing[0].timing
            sizes = sizes_in_short(sizes_of(of_timing), known[timing])
            names.setdefault(timing, {}).setdefault(sizes, []).append(name)
    return {
        timing: "; ".join(
            f"{'all arms,' if len(of_sizes) == number_of_pairs else joined(of_sizes)} {sizes}"
            for sizes, of_sizes in names[timing].items()
        )
        for timing in Timing
        if timing in names
    }


def _places(
    reason: OpenReason | None, bands: Sequence[Band], known: KnownSizes, *, brief: bool
) -> Iterator[tuple[str, bool]]:
    """Yield the open sizes of one pair of arms as texts, and True for each text that includes the reason.

    Sizes whose change is known are divided by timing and direction. In a ``brief`` line, and within noise, the sizes
    stand together and have no differences.
    """
    of_timings = by_timing(bands)
    if reason is OpenReason.SHARED_ARM_MOVED:
        yield from ((place, True) for of_timing in of_timings for place in _moved_places(of_timing, known))
    elif brief or reason is OpenReason.WITHIN_NOISE:
        yield every_timing([where(of_timing, known) for of_timing in of_timings]), False
    else:
        for group in chain.from_iterable(map(_by_direction, of_timings)):
            is_below = reason is OpenReason.BELOW_THRESHOLD
            change = _change_below(group) if is_below else f"{_change(group)}{_ends(group)}"
            yield f"{where(group, known)}, {change}", is_below


def _moved_places(bands: Sequence[Band], known: KnownSizes) -> Iterator[str]:
    """Yield the sizes that are open because the machine changed. Sizes at which the shared arm shows it come first."""
    timing = bands[0].timing
    groups: dict[bool, list[Comparison]] = {False: [], True: []}
    for each in chain.from_iterable(band.comparisons for band in bands):
        groups[each.shared is not None and each.shared.cpu_factors is not None].append(each)
    for group in filter(None, groups.values()):
        sizes = sorted(each.case.size_bytes for each in group)
        yield f"{timing} {sizes_in_short(sizes, known[timing])}: {moved_text(group)}"


def _noise_alone(bands: Sequence[Band]) -> str:
    """Return the noise floor of ``bands``, if only the noise floor prevents the verdict ``equivalent``."""
    alone = all(verdict_of(band.interval, band.threshold) is Verdict.EQUIVALENT for band in bands)
    floor = max(band.noise_floor or 0.0 for band in bands)
    return f" of {format_share(floor)}" if alone and floor else ""


def _by_direction(bands: Sequence[Band]) -> list[list[Band]]:
    """Return the bands of faster candidates and the bands of slower candidates: a line never mixes both."""
    groups = ([band for band in bands if band.ratio <= 1], [band for band in bands if band.ratio > 1])
    return sorted(filter(None, groups), key=lambda group: group[0].comparisons[0].case.size_bytes)


def _change(bands: Sequence[Band]) -> str:
    """Return the change of ``bands``, and the change of the size that changed most."""
    ratios = [band.ratio for band in bands]
    most = farthest(bands)
    # If `ratios` and `most` lie on different sides of 1, do not name the size in a line about the other direction.
    if (most.ratio > 1) == (ratios[0] > 1) and abs(most.ratio - 1) > _MUCH_MORE * max(abs(each - 1) for each in ratios):
        return f"{change_range(ratios)} ({percent_range([most.ratio])} at {size_with_unit(most.case.size_bytes)})"
    return change_range(ratios)


def _change_below(bands: Sequence[Band]) -> str:
    """Return the change of ``bands``, and the part of the change that is sure, which is below the threshold."""
    near = filter(None, (nearer(band.interval, band.noise_floor) for band in bands))
    # A band has the widest interval and the largest noise floor of its segments. Both together can reach beyond 1.
    sure = min((max(0.0, 1 - each.high, each.low - 1) for each in near), default=0.0)
    return f"{_change(bands)}, but only {format_share(sure)} is sure"


def _ends(bands: Sequence[Band]) -> str:
    """Return the smallest and the largest end of the intervals of ``bands``; empty without intervals."""
    ends = [end for band in bands if band.interval for end in (band.interval.low, band.interval.high)]
    if not ends:
        return ""
    one_sided = max(ends) <= 1 or min(ends) >= 1
    interval = percent_range(ends) if one_sided else change_range(ends)
    # Both ends of a narrow interval can round to the same number. Then the change already shows it.
    return f", interval {interval}" if " to " in interval else ""
