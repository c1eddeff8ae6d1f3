"""Lines of the headline about one pair of arms: the bands of each verdict, in words.

A line never averages. It names the sizes of a verdict, with the smallest and the largest difference.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.headline import HeadlineLine, Label
from nccl_bench.analysis.shared_arm import own_change_text
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.wording import (
    change_range,
    every_comparison,
    every_timing,
    percent_range,
    saved_text,
    size_with_unit,
    sizes_in_short,
)
from nccl_bench.catalog.timings import Timing

# With more bands of one verdict in one timing, one line names all their sizes.
_MOST_BANDS = 2
# With more sizes than this, a line names the slowest size.
_FEW_SIZES = 2
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


def share_of(some: Iterable[Band], bands: Iterable[Band]) -> str:
    """Return how many comparisons of ``bands`` are in ``some``: all 32 comparisons, 2 of 32 comparisons."""
    number, of_all = comparisons_of(some), comparisons_of(bands)
    if number == of_all:
        return every_comparison(of_all)
    return f"{number} of {of_all} comparisons"


def decided_lines(
    bands: Sequence[Band], verdict: Verdict, known: KnownSizes, *, joined: bool = False, names_most: bool = True
) -> Iterator[HeadlineLine]:
    """Yield the lines of ``verdict``, faster or slower; ``bands`` are of one pair of arms and one kind of case.

    With ``joined``, all timings share a line. With ``names_most``, a slower line names its slowest size.
    """
    decided = [band for band in bands if band.verdict is verdict]
    label = _DECIDED[verdict]
    if joined and decided:
        parts = [
            ", ".join([where(of_timing, known), *_differences(of_timing, names_most=names_most, in_short=True)])
            for of_timing in by_timing(decided)
        ]
        yield HeadlineLine(label=label, timing=None, text="; ".join(parts))
        return
    for of_timing in by_timing(decided):
        for group in [of_timing] if len(of_timing) > _MOST_BANDS else [[band] for band in of_timing]:
            timing = group[0].timing
            sizes = sizes_in_short(sizes_of(group), known[timing])
            text = ", ".join([sizes, *_differences(group, names_most=names_most)])
            yield HeadlineLine(label=label, timing=timing, sizes=sizes, text=text)


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
    change = percent_range([ratio for band in bands for ratio in band.ratios])
    yield change
    if names_most and bands[0].verdict is Verdict.SLOWER and comparisons_of(bands) > _FEW_SIZES and " to " in change:
        yield f"most at {size_with_unit(farthest(bands).case.size_bytes)}"
    if any(band.has_shared_arm for band in bands):
        # The ratio is relative to a shared arm. Only the arm's own times show how long a call takes.
        yield own_change_text([each for band in bands for each in band.comparisons])
    else:
        yield saved_text([us for band in bands for us in band.saved_us], None if in_short else bands[0].timing)


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


def sizes_of(bands: Iterable[Band]) -> list[int]:
    """Return the different sizes of ``bands``, sorted, in bytes."""
    return sorted({each.case.size_bytes for band in bands for each in band.comparisons})
