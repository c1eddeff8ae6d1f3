"""Lines of the headline about pairs of arms: the bands of each verdict, in words.

A line never averages. It names the sizes of a verdict, with the smallest and the largest difference.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.headline import HeadlineLine, Label
from nccl_bench.analysis.shared_arm import own_change_text
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.wording import (
    Difference,
    change_range,
    every_comparison,
    every_timing,
    opposite_text,
    percent_range,
    saved_text,
    size_with_unit,
    sizes_in_short,
)
from nccl_bench.catalog.timings import Timing

# With more bands of one verdict in one timing, one line names all their sizes.
_MOST_BANDS = 2
# With more lines of one verdict than this, each pair of arms has one line.
_MOST_ROWS = 6
# With more sizes than this, a line names the slowest size.
_FEW_SIZES = 2
# The bands of each pair of arms, by the name of the pair.
Pairs = Mapping[str, Sequence[Band]]
# The sizes of each timing.
KnownSizes = Mapping[Timing, Sequence[int]]
_DECIDED = {Verdict.FASTER: Label.FASTER, Verdict.SLOWER: Label.SLOWER}


def known_sizes(bands: Iterable[Band], swept: Collection[int] = ()) -> KnownSizes:
    """Return the sizes of each timing in ``bands`` and ``swept``; ``swept`` are the sizes that were tried."""
    of_timings: dict[Timing, set[int]] = {}
    for band in bands:
        of_timings.setdefault(band.timing, {*swept}).update(sizes_of([band]))
    return {timing: sorted(sizes) for timing, sizes in of_timings.items()}


def is_open(band: Band) -> bool:
    """Return True if ``band`` is not decided."""
    return band.verdict in (Verdict.INCONCLUSIVE, None)


def comparisons_of(bands: Iterable[Band]) -> int:
    """Return the number of comparisons in ``bands``: a comparison is one size of a pair of arms in one timing."""
    return sum(len(band.comparisons) for band in bands)


def chosen(pairs: Pairs, is_chosen: Callable[[Band], bool]) -> Pairs:
    """Return the chosen bands of each pair; pairs without such bands are absent."""
    of_pairs = {name: [band for band in bands if is_chosen(band)] for name, bands in pairs.items()}
    return {name: bands for name, bands in of_pairs.items() if bands}


def share_of(some: Iterable[Band], bands: Iterable[Band]) -> str:
    """Return how many comparisons of ``bands`` are in ``some``: all 32 comparisons, 2 of 32 comparisons."""
    number, of_all = comparisons_of(some), comparisons_of(bands)
    if number == of_all:
        return every_comparison(of_all)
    return f"{number} of {of_all} comparisons"


def decided_lines(
    pairs: Pairs, verdict: Verdict, known: KnownSizes, *, brief: bool, names_most: bool
) -> Iterator[HeadlineLine]:
    """Yield the lines of ``verdict``, faster or slower, about ``pairs``: the bands of each pair of arms by its name.

    A line has the pairs with the same sizes in one timing. With ``brief``, and instead of many lines, each pair has a
    line with all its timings. With ``names_most``, a slower line names its slowest size. An only pair is not named.
    """
    decided = chosen(pairs, lambda band: band.verdict is verdict)
    names = {name: f"{name}: " if len(pairs) > 1 else "" for name in decided}
    rows: dict[tuple[Timing, str], list[tuple[str, list[Band]]]] = {}
    for name, bands in decided.items():
        for group in _groups(bands):
            timing = group[0].timing
            rows.setdefault((timing, sizes_in_short(sizes_of(group), known[timing])), []).append((name, group))
    if brief or (len(pairs) > 1 and len(rows) > _MOST_ROWS):
        for name, bands in decided.items():
            parts = [
                ", ".join([where(of_timing, known), *_differences(of_timing, names_most=names_most, in_short=True)])
                for of_timing in by_timing(bands)
            ]
            yield HeadlineLine(label=_DECIDED[verdict], timing=None, text=f"{names[name]}{'; '.join(parts)}")
        return
    for (timing, sizes), groups in sorted(rows.items(), key=lambda row: list(Timing).index(row[0][0])):
        # What a time is stands once, at the end.
        texts = [
            f"{names[name]}{', '.join(_differences(group, names_most=names_most, in_short=number < len(groups)))}"
            for number, (name, group) in enumerate(groups, start=1)
        ]
        yield HeadlineLine(label=_DECIDED[verdict], timing=timing, sizes=sizes, text=f"{sizes}, {'; '.join(texts)}")


def _groups(bands: Sequence[Band]) -> Iterator[list[Band]]:
    """Yield the bands that share a line, of one pair of arms and one verdict: each alone, unless these are many."""
    for of_timing in by_timing(bands):
        yield from [of_timing] if len(of_timing) > _MOST_BANDS else [[band] for band in of_timing]


def same_lines(bands: Sequence[Band], known: KnownSizes) -> Iterator[HeadlineLine]:
    """Yield the line of the sizes at which one pair of arms is the same."""
    same = [band for band in bands if band.verdict is Verdict.EQUIVALENT]
    if same:
        places = every_timing([f"{where(of_timing, known)}{_odd_size(of_timing)}" for of_timing in by_timing(same)])
        yield HeadlineLine(label=Label.SAME, timing=None, text=places)


def _differences(bands: Sequence[Band], *, names_most: bool, in_short: bool = False) -> Iterator[str]:
    """Yield the change of ``bands``, which are of one timing, as a share and in microseconds.

    See `decided_lines` about ``names_most``. A text ``in_short`` does not mention CPU time.
    """
    has_shared_arm = any(band.has_shared_arm for band in bands)
    sizes = differences_of(bands)
    timing = None if in_short else bands[0].timing
    if not has_shared_arm and (opposite := opposite_text(sizes, timing)):
        yield opposite
        return
    change = percent_range([each.ratio for each in sizes])
    yield change
    if names_most and bands[0].verdict is Verdict.SLOWER and comparisons_of(bands) > _FEW_SIZES and " to " in change:
        yield f"most at {size_with_unit(farthest(bands).case.size_bytes)}"
    if has_shared_arm:
        # The ratio is relative to a shared arm. Only the arm's own times show how long a call takes.
        yield own_change_text([each for band in bands for each in band.comparisons])
    else:
        yield saved_text([each.saved_us for each in sizes], timing)


def by_timing(bands: Sequence[Band]) -> list[list[Band]]:
    """Return ``bands`` by timing, in the order of ``Timing``."""
    ordered = sorted(bands, key=lambda band: list(Timing).index(band.timing))
    return [list(of_timing) for _, of_timing in groupby(ordered, key=lambda band: band.timing)]


def where(bands: Sequence[Band], known: KnownSizes) -> str:
    """Return the timing and the sizes of ``bands``, which are of one timing: eager 8 to 16 B."""
    timing = bands[0].timing
    return f"{timing} {sizes_in_short(sizes_of(bands), known[timing])}"


def _odd_size(bands: Sequence[Band]) -> str:
    """Return the size with the largest change, if it is beyond the threshold in an ``equivalent`` band."""
    odd = farthest(bands)
    if not any(band.is_odd for band in bands):
        return ""
    return f" ({change_range([odd.ratio])} at {size_with_unit(odd.case.size_bytes)}, maybe by chance)"


def farthest(bands: Iterable[Band]) -> Comparison:
    """Return the comparison with the largest change."""
    return max((band.farthest for band in bands), key=lambda each: abs(each.ratio - 1))


def differences_of(bands: Iterable[Band]) -> list[Difference]:
    """Return the difference at each size of ``bands``."""
    return [Difference(each.case.size_bytes, each.ratio, each.saved_us) for band in bands for each in band.comparisons]


def sizes_of(bands: Iterable[Band]) -> list[int]:
    """Return the different sizes of ``bands``, sorted, in bytes."""
    return sorted({each.case.size_bytes for band in bands for each in band.comparisons})
