"""The wording of numbers and cases in tables and messages."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence, Set
from typing import TYPE_CHECKING, NamedTuple

from nccl_bench.catalog.cases import Case, Scenario, root_word, scenario_words
from nccl_bench.catalog.scenarios import SCENARIOS
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.sizes import format_size

EVERY_SIZE = "every size"
# With more ranges of sizes than this, a text counts the sizes and does not list them.
_MOST_RANGES = 5

# A time or a change is clearly larger than another if it is at least so many times as large.
_CLEARLY = 1.2

if TYPE_CHECKING:
    from nccl_bench.analysis.comparison import Comparison
    from nccl_bench.analysis.summary import Row


class Difference(NamedTuple):
    """The difference of two arms at one size."""

    size_bytes: int  # the size
    ratio: float  # the time of the candidate / the time of the baseline
    saved_us: float  # the time that a call of the candidate saves, microseconds; negative if it takes longer


def case_name(of: Case | Row, placements: Collection[str] | None = None) -> str:
    """Return the name of a case without its size: ``all_reduce bfloat16 sum in-place``.

    ``placements`` are those in which its arms were called; the name has no placement if they differ. ``None`` means the
    placement of the case.
    """
    placement = of.placement if placements is None else None if len(placements) > 1 else next(iter(placements), None)
    words = (scenario_words(of), of.collective, of.dtype, of.redop, placement, root_word(of.root))
    return " ".join(filter(None, words))


def compared_case(comparison: Comparison) -> str:
    """Return the name of a case without its size. If the placements of the two arms differ, the text names both."""
    before, after = comparison.placements
    placements = "" if before == after else f", {after} against {before}"
    return f"{case_name(comparison.case, {before, after})}{placements}"


def unit_of(of: Case | Row | None) -> str:
    """Return the work that one time of a case belongs to: a call, or what a call is in its scenario."""
    return SCENARIOS[Scenario(of.scenario or Scenario.ISOLATED)].unit if of is not None else "call"


def times_unit(unit: str) -> str:
    """Return the unit of times that belong to ``unit``: us for the usual call, and us a layer."""
    return "us" if unit == "call" else f"us a {unit}"


def with_notes(arm: str, *notes: str) -> str:
    """Return the name of an arm with notes: ``after (returned)``."""
    return f"{arm} ({', '.join(notes)})" if notes else arm


def compared_text(comparison: Comparison, sides: tuple[str, str]) -> str:
    """Return a text that names the compared arms; ``sides`` are the names of the two sides.

    If the placements of the two arms differ, the text names both.
    """
    baseline, candidate = comparison.baseline, comparison.candidate
    differ = len({*comparison.placements}) > 1
    before, after = ([placement] if differ else [] for placement in comparison.placements)
    if sides == ("baseline", "candidate"):
        return f"{with_notes(candidate, *after)} against {with_notes(baseline, *before)}"
    if baseline == candidate:
        # The arms of a run can have the names of the sides: "after, after against before" would be a riddle.
        name = f"the arm {candidate}" if candidate in sides else candidate
        return f"{name}, {with_notes(sides[1], *after)} against {with_notes(sides[0], *before)}"
    return f"{with_notes(candidate, sides[1], *after)} against {with_notes(baseline, sides[0], *before)}"


def size_with_unit(size_bytes: int) -> str:
    """Return a size with its unit: 8 B, 1.75 MiB."""
    text = format_size(size_bytes)
    return f"{text[:-1]} {text[-1]}iB" if text[-1].isalpha() else f"{text} B"


def from_to(first: str, last: str) -> str:
    """Return a range of two texts, or the text if both are equal: 8 B to 2 MiB, 3.2."""
    return first if first == last else f"{first} to {last}"


def counted(number: int, noun: str) -> str:
    """Return the number with its noun: ``1 rank``, ``2 ranks``, ``2 launches``."""
    plural = "es" if noun.endswith("ch") else "s"
    return f"{number} {noun}" + ("" if number == 1 else plural)


def every_comparison(number: int) -> str:
    """Return in words that all ``number`` comparisons are meant: all 32 comparisons, the only comparison."""
    return f"all {number} comparisons" if number > 1 else "the only comparison"


def joined(words: Sequence[str]) -> str:
    """Return ``words`` as a list in a sentence: ``eager``, ``eager and graph``, ``eager, gated and graph``."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def significant(value: float) -> str:
    """Return ``value`` with three significant digits, and all digits before the point: 0.0123, 7.65, 607, 4612."""
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(float(f"{abs(value):.2e}")))
    return f"{value:.{max(0, 2 - magnitude)}f}"


def format_ratio(value: float) -> str:
    """Return a ratio with two decimals, large ratios with fewer: 0.38x, 1.02x, 12.3x, 140x."""
    return f"{value:.2f}x" if value < 9.995 else f"{significant(value)}x"


def format_ratios(values: Sequence[float]) -> str:
    """Return the range from the smallest to the largest ratio; an empty text if there are no ratios."""
    if not values:
        return ""
    return from_to(format_ratio(min(values)), format_ratio(max(values)))


def percent(share: float, *, sign: bool = False) -> str:
    """Return a share in percent, with one decimal below 10: 0.4, 9.8, 12. All formats round percentages like this.

    With ``sign``, a number that is not zero has its sign: -14, +1.2, 0.0.
    """
    number = f"{share * 100:{'+' if sign else ''}.{1 if abs(share) < 0.0995 else 0}f}"
    return number if number.strip("+-0.") else number.lstrip("+-")


def format_share(share: float) -> str:
    """Return a share in percent: 0.4 %, 12 %, and ``>999 %`` for larger shares."""
    return ">999 %" if share > 9.995 else f"{percent(share)} %"


def percent_range(ratios: Sequence[float]) -> str:
    """Return how far the ratios are from 1, the smallest and the largest distance in percent: 9.8 to 27 %, 3.2 %."""
    shares = [abs(ratio - 1) for ratio in ratios]
    return f"{from_to(percent(min(shares)), percent(max(shares)))} %"


def change_range(ratios: Sequence[float]) -> str:
    """Return the changes with their directions: 2.1 to 3.4 % faster, 0.3 % faster to 1.2 % slower."""
    low, high = min(ratios), max(ratios)
    if low < 1 < high:
        return f"{percent_range([low])} faster to {percent_range([high])} slower"
    return f"{percent_range(ratios)} {'faster' if high <= 1 else 'slower'}"


def saved_text(saved_us: Sequence[float], timing: Timing | None) -> str:
    """Return what a candidate saves or costs: saves 2.1 to 4.5 us, costs up to 3.2 us of CPU time a call.

    Without a ``timing``, the text does not mention the CPU.
    """
    verb = "saves" if sum(saved_us) >= 0 else "costs"
    amounts = [abs(us) for us in saved_us if (us >= 0) == (verb == "saves")]
    # The medians of two arms can show a gain where the median ratio of their rounds shows a loss, or the reverse.
    text = _range(amounts) if len(amounts) == len(saved_us) else f"up to {_range([max(amounts)])}"
    return f"{verb} {text} us{_of_cpu(timing)}"


def opposite_text(differences: Sequence[Difference], timing: Timing | None) -> str:
    """Return both ends of ``differences`` if the largest change saves or costs the least time; else an empty text.

    The text is also empty if the changes or the times of the two ends do not clearly differ. As two ranges, 14 to 27 %
    and 2.1 to 4.5 us, they would read as if 27 % were 4.5 us. So the text is: 27 % (2.2 us) at 8 B to 14 % (4.5 us) at
    2 MiB. See `saved_text` about ``timing``.
    """
    most, least = (choose(differences, key=lambda each: abs(each.ratio - 1)) for choose in (max, min))
    (largest, first), (smallest, last) = ((abs(each.ratio - 1), abs(each.saved_us)) for each in (most, least))
    times = [abs(each.saved_us) for each in differences]
    are_ends = first <= _CLEARLY * min(times) and max(times) <= _CLEARLY * last
    differ = largest >= _CLEARLY * smallest and last >= _CLEARLY * first
    if not are_ends or not differ or most.saved_us * least.saved_us < 0:
        return ""
    first_text = f"{percent(largest)} % ({_range([first])} us{_of_cpu(timing)})"
    last_text = f"{percent(smallest)} % ({_range([last])} us)"
    return f"{first_text} at {size_with_unit(most.size_bytes)} to {last_text} at {size_with_unit(least.size_bytes)}"


def _of_cpu(timing: Timing | None) -> str:
    return "" if timing is None or TIMINGS[timing].moves_bytes else " of CPU time a call"


def time_range(changes_us: Sequence[float]) -> str:
    """Return the smallest and the largest change of times with their signs: +0.31 us, -2.1 to +4.5 us."""
    texts = [f"{'-' if us < 0 else '+'}{_range([abs(us)])}" for us in (min(changes_us), max(changes_us))]
    return f"{from_to(*texts)} us"


def sizes_in_short(sizes: Sequence[int], known: Sequence[int]) -> str:
    """Return the ranges of ``sizes`` among the ``known`` sizes in few words: 8 B to 2 KiB, 1 MiB and 4 to 16 MiB.

    Both are sorted. Fewer sizes are named as exceptions: 8 B to 8 MiB except 64 B, 2 KiB and 1 MiB. With many ranges
    and many exceptions, the text counts the sizes.
    """
    if len(sizes) == len(known) > 1:
        return EVERY_SIZE
    named = {*sizes}
    between = [size for size in known if sizes[0] <= size <= sizes[-1]]
    exceptions = {size for size in between if size not in named}
    ranges, without = _ranges(named, known), _ranges(exceptions, known)
    if len(without) > 1 and 2 * len(exceptions) < len(sizes) and len(without) <= _MOST_RANGES:
        every = EVERY_SIZE if len(between) == len(known) else _from_to(sizes)
        return f"{every} except {joined(list(map(_from_to, without)))}"
    if len(ranges) > _MOST_RANGES:
        return f"{len(sizes)} of the {len(between)} sizes from {_from_to(sizes)}"
    return joined(list(map(_from_to, ranges)))


def every_timing(places: Sequence[str]) -> str:
    """Return ``places``, one for each timing, as one text. If each place says every size, the text says it once."""
    if len(places) > 1 and all(place.endswith(EVERY_SIZE) for place in places):
        return f"{joined([place.removesuffix(f' {EVERY_SIZE}') for place in places])}, {EVERY_SIZE}"
    return "; ".join(places)


def _ranges(sizes: Set[int], known: Sequence[int]) -> list[list[int]]:
    """Return ``sizes`` in groups of neighbours among the sorted ``known`` sizes."""
    ranges: list[list[int]] = []
    for position, size in enumerate(known):
        if size in sizes:
            if not position or known[position - 1] not in sizes:
                ranges.append([])
            ranges[-1].append(size)
    return ranges


def _from_to(sizes: Sequence[int]) -> str:
    """Return the first and the last size, with a common unit only once: 8 to 64 B, 8 B to 2 MiB, 4 KiB."""
    first, last = size_with_unit(sizes[0]), size_with_unit(sizes[-1])
    (number, unit), unit_of_last = first.split(), last.split()[1]
    return from_to(number, last) if first != last and unit == unit_of_last else from_to(first, last)


def _range(values: Sequence[float]) -> str:
    """Return the smallest and the largest time, with two digits: 14 to 27, 6.9 to 12, 0.31."""
    return from_to(*(f"{us:.{0 if us >= 9.95 else 1 if us >= 0.95 else 2}f}" for us in (min(values), max(values))))
