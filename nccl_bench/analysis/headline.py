"""The headline of an analysis: its answer in a few lines, to read before any table.

A line never averages. It counts verdicts, and names the sizes of each verdict, with the smallest and the largest ratio.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.wording import case_name, compared_text, counted, format_ratios, size_with_unit
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Samples, Status

if TYPE_CHECKING:
    from nccl_bench.analysis.summary import Row

# With more lines than this, only the first pair of arms has a line for each timing.
_MOST_LINES = 8
# With more ranges of sizes than this, a line counts the sizes of a verdict and does not list them.
_MOST_RANGES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The verdicts about a pair of arms."""

    title: str  # the pair of arms, and the kind of case
    lines: tuple[str, ...]  # the verdicts of each timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The answer of an analysis."""

    answers: tuple[Answer, ...]  # the verdicts; empty if nothing was compared
    results: str  # whether the results were right; empty for a comparison of runs
    command: str  # the command of the run; empty for a comparison of runs


def headline(
    comparisons: Sequence[Comparison], sides: tuple[str, str], run: Run | None, rows: Sequence[Row]
) -> Headline:
    """Return the headline of ``comparisons``.

    ``sides`` are the names of the two sides. ``run`` is ``None`` for the command ``compare``; ``rows`` are its rows.
    """
    command = run.meta.get("command") if run else None
    return Headline(
        answers=(*_answers(comparisons, sides), *(_unanswered(run, comparisons) if run else ())),
        results=_results(rows) if run else "",
        command=shlex.join(map(str, command)) if isinstance(command, list) else "",
    )


def _answers(comparisons: Sequence[Comparison], sides: tuple[str, str]) -> Iterator[Answer]:
    def pair_and_kind(each: Comparison) -> str:
        return f"{compared_text(each, sides)}: {case_name(each.case, {*each.placements})}"

    answers = list(_by_timing(_grouped(comparisons, pair_and_kind), _sizes))
    pairs = _grouped(comparisons, lambda each: compared_text(each, sides))
    if _count_lines(answers) > _MOST_LINES:
        (title, of_first), *rest = pairs.items()
        answers = list(_by_timing(_grouped(of_first, pair_and_kind), _sizes))
        if _count_lines(answers) > _MOST_LINES:
            answers = list(_by_timing({title: of_first}, _counts))
        if rest:
            lines = tuple(f"{title}: {_counts(of_pair)}" for title, of_pair in rest)
            answers.append(Answer(title="Other comparisons", lines=lines))
    yield from answers


def _by_timing(
    groups: Mapping[str, Sequence[Comparison]], describe: Callable[[Sequence[Comparison]], str]
) -> Iterator[Answer]:
    """Yield an answer for each of ``groups``, with a line for each timing."""
    for title, of_group in groups.items():
        of_timings = {timing: [each for each in of_group if each.timing is timing] for timing in Timing}
        lines = (f"{timing}: {describe(of_timing)}" for timing, of_timing in of_timings.items() if of_timing)
        yield Answer(title=title, lines=tuple(lines))


def _count_lines(answers: Sequence[Answer]) -> int:
    return sum(len(answer.lines) for answer in answers)


def _unanswered(run: Run, comparisons: Sequence[Comparison]) -> Iterator[Answer]:
    """Yield an answer for each arm that the run asks about and that no comparison has."""
    for arm in run.asked_arms:
        if all(each.candidate != arm for each in comparisons):
            outcomes = {*_outcomes(run, arm)} or {"not measured"}
            words = ", ".join(sorted(outcomes - {Status.OK}))
            line = f"not compared in any case{f': {words}, see below' if words else ''}"
            yield Answer(title=f"{arm} against {run.baseline}", lines=(line,))


def _outcomes(run: Run, arm: str) -> Iterator[str]:
    """Yield the status of each cell of ``arm``, and what ended its measurements."""
    for line in run.lines:
        if isinstance(line, Samples | Hang | Crash) and line.arm == arm:
            yield line.status if isinstance(line, Samples) else line.kind


def _grouped(comparisons: Sequence[Comparison], key: Callable[[Comparison], str]) -> dict[str, list[Comparison]]:
    groups: dict[str, list[Comparison]] = {}
    for each in comparisons:
        groups.setdefault(key(each), []).append(each)
    return groups


def _counts(comparisons: Sequence[Comparison]) -> str:
    """Return how many comparisons have each verdict."""
    counts = Counter(each.verdict for each in comparisons)
    return ", ".join(
        f"{_word(verdict)} in {counted(counts[verdict], 'cell')}" for verdict in (*Verdict, None) if counts[verdict]
    )


def _sizes(comparisons: Sequence[Comparison]) -> str:
    """Return the sizes and ratios of each verdict; the verdict of the smallest size is first."""
    by_size = sorted(comparisons, key=lambda each: each.case.size_bytes)
    ranges: dict[Verdict | None, list[list[Comparison]]] = {}
    for verdict, neighbours in groupby(by_size, key=lambda each: each.verdict):
        ranges.setdefault(verdict, []).append(list(neighbours))
    return "; ".join(_sizes_of_verdict(verdict, of_verdict) for verdict, of_verdict in ranges.items())


def _sizes_of_verdict(verdict: Verdict | None, ranges: Sequence[Sequence[Comparison]]) -> str:
    comparisons = [each for of_range in ranges for each in of_range]
    ratios = format_ratios([each.ratio for each in comparisons])
    if len(ranges) > _MOST_RANGES:
        where = f"in {counted(len(comparisons), 'size')} from {_span(comparisons)}"
        return f"{_word(verdict)} {where} ({ratios})"
    where = ", ".join(_span(of_range) for of_range in ranges)
    return f"{_word(verdict)} at {where} ({counted(len(comparisons), 'size')}, {ratios})"


def _span(comparisons: Sequence[Comparison]) -> str:
    first, last = (size_with_unit(comparisons[index].case.size_bytes) for index in (0, -1))
    return first if first == last else f"{first} to {last}"


def _word(verdict: Verdict | None) -> str:
    return "no verdict" if verdict is None else verdict.value


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
