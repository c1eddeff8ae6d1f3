"""The wording of numbers and cases in tables and messages."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from nccl_bench.catalog.cases import Case, scenario_word
from nccl_bench.config.sizes import format_size

if TYPE_CHECKING:
    from nccl_bench.analysis.comparison import Comparison
    from nccl_bench.analysis.summary import Row


def case_name(of: Case | Row, placements: Collection[str] | None = None) -> str:
    """Return the name of a case without its size: ``all_reduce bfloat16 sum in-place``.

    ``placements`` are those in which its arms were called; the name has no placement if they differ. ``None`` means the
    placement of the case.
    """
    root = None if of.root is None else f"root {of.root}"
    placement = of.placement if placements is None else None if len(placements) > 1 else next(iter(placements), None)
    return " ".join(filter(None, (scenario_word(of.scenario), of.collective, of.dtype, of.redop, placement, root)))


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


def counted(number: int, noun: str) -> str:
    """Return the number with its noun: ``1 rank``, ``2 ranks``, ``2 launches``."""
    plural = "es" if noun.endswith("ch") else "s"
    return f"{number} {noun}" + ("" if number == 1 else plural)


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
    low, high = format_ratio(min(values)), format_ratio(max(values))
    return low if low == high else f"{low} to {high}"


def format_share(share: float) -> str:
    """Return a share in percent: 0.4 %, 12 %, and ``>999 %`` for larger shares."""
    if share > 9.995:
        return ">999 %"
    return f"{share * 100:.1f} %" if share < 0.0995 else f"{share * 100:.0f} %"
