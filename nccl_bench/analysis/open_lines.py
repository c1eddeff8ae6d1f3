"""Lines of the headline about what is open in one kind of case, and why it is open."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from nccl_bench.analysis.bands import Band, OpenReason
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.headline import HeadlineLine, Label
from nccl_bench.analysis.pair_lines import (
    KnownSizes,
    by_timing,
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
from nccl_bench.analysis.verdict_words import WHY_OPEN, noise_hides_the_rest
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

# Reason -> the relative clause about comparisons that are open for it, after the word "which".
_WHICH: Mapping[OpenReason | None, str] = {
    OpenReason.BELOW_THRESHOLD: "may be under the limit of {threshold}{noise}",
    OpenReason.WITHIN_NOISE: "{are} within noise (the times vary more than the arms differ)",
    OpenReason.TOO_FEW_ROUNDS: "{have} too few rounds",
    OpenReason.NO_TWIN: "{have} no twin, so the noise is unknown",
    OpenReason.DIFFERENT_PROCESSES: "{are} of different processes, whose CPU speeds differ",
    OpenReason.ONE_LAUNCH: "{have} times of both arms in one launch only",
    OpenReason.SHARED_ARM_MOVED: "the machine alone may have changed",
    None: "{have} no verdict, because the variation of the times is unknown",
}
# The reasons that matter more than the change of each size. Pairs of arms with such a reason share a line.
_SHARED = (OpenReason.WITHIN_NOISE, OpenReason.SHARED_ARM_MOVED)
# A line names a size whose change is at least so many times the change of its band.
_MUCH_MORE = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenLine:
    """The open sizes of a line."""

    reason: str  # why they are open, in words
    places: str  # the sizes, and their changes if these matter
    with_reason: str  # the same with the reason


def open_answers(
    pairs: Mapping[str, Sequence[Band]], swept: Collection[int], *, brief: bool, counts: bool
) -> Iterator[HeadlineLine]:
    """Yield the open lines of ``pairs``, the bands of each pair of arms by its name; all are of one kind of case.

    ``swept`` are all sizes that were tried. With ``brief``, lines have no differences. With ``counts``, the first line
    counts the comparisons that are open.
    """
    bands = list(chain.from_iterable(pairs.values()))
    known = known_sizes(bands, swept)
    lines = [line for reason in WHY_OPEN for line in _lines_of(reason, pairs, known, brief=brief)]
    count = _count_text(bands) if counts and lines else ""
    if len(lines) == 1 and count:
        yield _line(f"{count}: {lines[0].places}")
        return
    if count:
        yield _line(count)
    # There is one reason, and the line with the count has it.
    known_reason = bool(count) and len({line.reason for line in lines}) == 1
    yield from (_line(line.places if known_reason else line.with_reason) for line in lines)


def count_of_open(bands: Sequence[Band]) -> Iterator[HeadlineLine]:
    """Yield a line with the number of open comparisons and the reason of most of them, if any is open."""
    if any(map(is_open, bands)):
        yield _line(_count_text(bands))


def _line(text: str) -> HeadlineLine:
    return HeadlineLine(label=Label.OPEN, timing=None, text=text)


def _count_text(bands: Sequence[Band]) -> str:
    still_open = [band for band in bands if is_open(band)]
    by_reason = {reason: [band for band in still_open if band.reason is reason] for reason in _WHICH}
    reason, of_reason = max(by_reason.items(), key=lambda item: comparisons_of(item[1]))
    number = comparisons_of(of_reason)
    which = _WHICH[reason].format(
        threshold=format_share(max(band.threshold for band in of_reason)),
        noise=" if the noise is taken off" if any(map(noise_hides_the_rest, of_reason)) else "",
        are="is" if number == 1 else "are",
        have="has" if number == 1 else "have",
    )
    some = "" if number == comparisons_of(still_open) else f"{number} of "
    return f"{share_of(still_open, bands)}, {some}which {which}"


def _lines_of(
    reason: OpenReason | None, pairs: Mapping[str, Sequence[Band]], known: KnownSizes, *, brief: bool
) -> Iterator[_OpenLine]:
    """Yield the lines of the bands that are open for ``reason``; ``brief`` is that of `open_answers`."""
    of_pairs = {
        name: still_open
        for name, bands in pairs.items()
        if (still_open := [band for band in bands if is_open(band) and band.reason is reason])
    }
    if not of_pairs:
        return
    bands = list(chain.from_iterable(of_pairs.values()))
    why = _why(reason, bands)
    if len(of_pairs) > 1 and (brief or reason in _SHARED):
        places = _places_of_pairs(of_pairs, len(pairs), known)
        yield _OpenLine(reason=why, places=places, with_reason=f"{comparisons_of(bands)} {why}: {places}")
        return
    for name, of_pair in of_pairs.items():
        for place, has_reason in _places(reason, of_pair, known, brief=brief):
            text = f"{name}: {place}" if len(pairs) > 1 else place
            own_why = _why(reason, of_pair)
            yield _OpenLine(reason=own_why, places=text, with_reason=text if has_reason else f"{text}: {own_why}")


def _why(reason: OpenReason | None, bands: Sequence[Band]) -> str:
    """Return in words why ``bands`` are open. All of them have this reason."""
    noise = _noise_alone(bands) if reason is OpenReason.WITHIN_NOISE else ""
    threshold = format_share(max(band.threshold for band in bands))
    moved = what_moved([each for band in bands for each in band.comparisons])
    return f"{WHY_OPEN[reason].format(threshold=threshold, moved=moved)}{noise}"


def _places_of_pairs(of_pairs: Mapping[str, Sequence[Band]], pairs: int, known: KnownSizes) -> str:
    """Return the sizes of each timing, with the names of the pairs that have them; there are ``pairs`` in all."""
    names: dict[Timing, dict[str, list[str]]] = {}
    for name, bands in of_pairs.items():
        for of_timing in by_timing(bands):
            timing = of_timing[0].timing
            sizes = sizes_in_short(sizes_of(of_timing), known[timing])
            names.setdefault(timing, {}).setdefault(sizes, []).append(name)
    texts = []
    for timing in filter(names.get, Timing):
        parts = [
            f"{sizes} ({'all' if len(of_sizes) == pairs else joined(of_sizes)})"
            for sizes, of_sizes in names[timing].items()
        ]
        texts.append(f"{timing} {', '.join(parts)}")
    return "; ".join(texts)


def _places(
    reason: OpenReason | None, bands: Sequence[Band], known: KnownSizes, *, brief: bool
) -> Iterator[tuple[str, bool]]:
    """Yield the open sizes of one pair of arms, and whether the text has the reason.

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
            place = f"{where(group, known)}, {_change(group)}"
            # The change, the noise and the limit say why a size is open below the threshold.
            is_below = reason is OpenReason.BELOW_THRESHOLD
            yield f"{place}, limit {format_share(group[0].threshold)}" if is_below else place, is_below


def _moved_places(bands: Sequence[Band], known: KnownSizes) -> Iterator[str]:
    """Yield the sizes between whose two sides the machine changed: those at which the shared arm shows it first."""
    timing = bands[0].timing
    groups: dict[bool, list[Comparison]] = {False: [], True: []}
    for each in chain.from_iterable(band.comparisons for band in bands):
        groups[each.shared is not None and each.shared.cpu_factors is not None].append(each)
    for group in filter(None, groups.values()):
        sizes = sorted(each.case.size_bytes for each in group)
        yield f"{timing} {sizes_in_short(sizes, known[timing])}: {moved_text(group)}"


def _noise_alone(bands: Sequence[Band]) -> str:
    """Return the noise floor of ``bands``, if it alone withholds the verdict that they are the same."""
    alone = all(verdict_of(band.interval, band.threshold) is Verdict.EQUIVALENT for band in bands)
    floor = max(band.noise_floor or 0.0 for band in bands)
    return f" of {format_share(floor)}" if alone and floor else ""


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
    most = farthest(bands)
    # `ratios` and `most` can lie on different sides of 1: then no line about this direction names the size.
    if (most.ratio > 1) == (ratios[0] > 1) and abs(most.ratio - 1) > _MUCH_MORE * max(abs(each - 1) for each in ratios):
        change += f", up to {percent_range([most.ratio])} at {size_with_unit(most.case.size_bytes)}"
    return f"{change}, of which {format_share(max(floors))} may be noise" if floors else change
