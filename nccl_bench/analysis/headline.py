"""The headline of an analysis: its answer in a few lines, to read before any table.

A line never averages. It names the sizes of a verdict, with the smallest and the largest change.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from nccl_bench.analysis.bands import Band, OpenReason
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.wording import case_name, compared_text, counted, format_ratios, size_with_unit
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Samples, Status

if TYPE_CHECKING:
    from nccl_bench.analysis.summary import Row


class Label(StrEnum):
    """The first word of a line of the headline."""

    FASTER = "FASTER"
    SLOWER = "SLOWER"
    SAME = "SAME"
    OPEN = "OPEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadlineLine:
    """The sizes with one verdict."""

    about: str = ""  # the pair of arms and the kind of case; empty if the title names them
    label: Label  # the verdict in one word
    timing: Timing | None  # the timing; None if the text names several timings
    text: str  # the sizes and the differences


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A fact below the verdicts."""

    name: str  # Results, Order, Machine, Command or Next
    text: str  # the fact in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The answer of an analysis. All reports show these texts."""

    title: str  # the question: the arms, the kind of case and the device
    problems: tuple[str, ...]  # wrong results, hangs and crashes; they stand above everything else
    lines: tuple[HeadlineLine, ...]  # the verdicts; empty if nothing was compared
    facts: tuple[Fact, ...]  # facts in a fixed order; a fact that is unknown is absent


_LABELS = {
    Verdict.FASTER: Label.FASTER,
    Verdict.SLOWER: Label.SLOWER,
    Verdict.EQUIVALENT: Label.SAME,
    Verdict.INCONCLUSIVE: Label.OPEN,
    None: Label.OPEN,
}
_REASONS = {reason: f", {reason}" for reason in OpenReason}


def headline(
    bands: Sequence[Band], sides: tuple[str, str], run: Run | None, rows: Sequence[Row], failures: Sequence[str]
) -> Headline:
    """Return the headline of ``bands``, which answer the question.

    ``sides`` are the names of the two sides. ``run`` is ``None`` for the command ``compare``; ``rows`` are its rows.
    """
    subjects = list(dict.fromkeys(_subject(band, sides) for band in bands))
    command = run.meta.get("command") if run else None
    facts = {
        "Results": _results(rows) if run else "",
        "Command": shlex.join(map(str, command)) if isinstance(command, list) else "",
    }
    return Headline(
        title=subjects[0] if len(subjects) == 1 else counted(len(subjects), "comparison"),
        problems=(*failures, *(_unanswered(run, bands) if run else ())),
        lines=tuple(_line(band, _subject(band, sides) if len(subjects) > 1 else "") for band in bands),
        facts=tuple(Fact(name=name, text=text) for name, text in facts.items() if text),
    )


def _subject(band: Band, sides: tuple[str, str]) -> str:
    comparison = band.comparisons[0]
    return f"{compared_text(comparison, sides)}, {case_name(comparison.case, {*comparison.placements})}"


def _line(band: Band, about: str) -> HeadlineLine:
    first, last = (size_with_unit(band.comparisons[index].case.size_bytes) for index in (0, -1))
    sizes = first if first == last else f"{first} to {last}"
    reason = _REASONS[band.reason] if band.reason else ""
    return HeadlineLine(
        about=about,
        label=_LABELS[band.verdict],
        timing=band.timing,
        text=f"{sizes}, ratio {format_ratios(band.ratios)}{reason}",
    )


def _unanswered(run: Run, bands: Sequence[Band]) -> Iterator[str]:
    """Yield a sentence about each arm that the run asks about and that no comparison has."""
    for arm in run.asked_arms:
        if all(band.candidate != arm for band in bands):
            outcomes = {*_outcomes(run, arm)} or {"not measured"}
            words = ", ".join(sorted(outcomes - {Status.OK}))
            yield f"{arm} is not compared with {run.baseline} in any case{f': {words}' if words else ''}"


def _outcomes(run: Run, arm: str) -> Iterator[str]:
    """Yield the status of each cell of ``arm``, and what ended its measurements."""
    for line in run.lines:
        if isinstance(line, Samples | Hang | Crash) and line.arm == arm:
            yield line.status if isinstance(line, Samples) else line.kind


def _results(rows: Sequence[Row]) -> str:
    """Return how many cells were right, wrong, not checked and declined; a cell is a case, an arm and a timing."""
    cells = [row for row in rows if row.timing]
    wrong = [row for row in cells if row.status == Status.WRONG]
    unchecked = sum(row.wrong is None for row in cells if row.status == Status.OK)
    right = sum(row.status == Status.OK for row in cells) - unchecked
    declined = sum(row.status == Status.DECLINED for row in cells)
    parts = []
    if wrong:
        arms = ", ".join(dict.fromkeys(str(row.arm) for row in wrong))
        parts.append(f"WRONG in {counted(len(wrong), 'cell')} of {arms}")
    if right:
        parts.append(f"right in {'all ' if right == len(cells) > 1 else ''}{counted(right, 'cell')}")
    if unchecked:
        parts.append(f"not checked in {counted(unchecked, 'cell')}")
    if declined:
        parts.append(f"declined in {counted(declined, 'cell')}")
    return ", ".join(parts) or "none"
