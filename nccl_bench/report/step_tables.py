"""Tables of step times: the time of each message of a workload in a step, and the changes by the candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.step_lines import change, named_arms
from nccl_bench.analysis.step_messages import StepMessage
from nccl_bench.analysis.step_time import StepComparison, StepTime
from nccl_bench.analysis.wording import counted, percent, significant
from nccl_bench.report.layout import Column, Table, column, pairs


def step_tables(analysis: Analysis, most: int | None = None) -> Iterator[Table]:
    """Yield a table for each baseline whose step time is compared; none without a workload.

    If there are more messages than ``most``, the messages with the shortest times share a line.
    """
    step = analysis.step
    if step is None:
        return
    for _, group in groupby(step.of(analysis.asked_arms), key=lambda each: each.baseline.arm):
        comparisons = list(group)
        baseline, _ = named_arms(comparisons[0], analysis.sides)
        names = [named_arms(each, analysis.sides)[1] for each in comparisons]
        # A change relative to a shared arm is not the difference of the candidate's two times: omit the column `saved`.
        saves = len(names) == 1 and step.shared_arm is None
        lines = _lines(comparisons, most)
        of_candidates = (
            _candidate(name, [line.changes[index] for line in lines], saves=saves) for index, name in enumerate(names)
        )
        yield Table(
            title=f"Step time by message: {', '.join(names)} against {baseline}, us a step",
            notes=tuple(_notes(comparisons[0], step, of_one_run=analysis.basis.of_one_run, saves=saves)),
            columns=(
                column("message", ("message",), [line.name for line in lines], left=True),
                column("calls", ("calls",), [_number(line.calls) for line in lines]),
                column(f"{baseline} (us)", (baseline, "us"), [significant(line.baseline_us) for line in lines]),
                *(each for columns in of_candidates for each in columns),
            ),
            keep=2,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """The time of a candidate in a line of the table."""

    candidate_us: float  # its time, microseconds a step
    saved_us: float  # the time that it saves
    share: float  # its change, as a share of the baseline's time


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A line of a table: one message, or several."""

    name: str  # the message, or what the messages have in common
    calls: float  # the calls in a step
    baseline_us: float  # the time of the baseline, microseconds a step
    changes: tuple[_Change | None, ...]  # each candidate; None if it lacks the time of a message


def _lines(comparisons: Sequence[StepComparison], most: int | None) -> list[_Line]:
    """Return a line for each message, the longest time first, and a line for all messages together."""
    times_us = {part.message: part.baseline_us for each in comparisons for part in each.contributions}
    messages = sorted(times_us, key=lambda message: -times_us[message])
    shown = len(messages) if most is None or len(messages) <= most else most - 1
    groups = [(message.name, [message]) for message in messages[:shown]]
    if rest := messages[shown:]:
        groups.append((counted(len(rest), "other message"), rest))
    lines = [
        _Line(
            name=name,
            calls=sum(message.calls for message in group),
            baseline_us=sum(times_us[message] for message in group),
            changes=tuple(_change(each, group, times_us) for each in comparisons),
        )
        for name, group in groups
    ]
    total = _Line(
        name="all messages",
        calls=sum(line.calls for line in lines),
        baseline_us=comparisons[0].baseline.step_us,
        changes=tuple(map(_total, comparisons)),
    )
    return [*lines, total]


def _change(
    comparison: StepComparison, messages: Sequence[StepMessage], times_us: Mapping[StepMessage, float]
) -> _Change | None:
    parts = [part for part in comparison.contributions if part.message in messages]
    if len(parts) < len(messages):
        return None
    saved_us = sum(part.saved_us for part in parts)
    return _Change(
        candidate_us=sum(part.candidate_us for part in parts),
        saved_us=saved_us,
        share=-saved_us / sum(times_us[message] for message in messages),
    )


def _total(comparison: StepComparison) -> _Change | None:
    if comparison.ratio is None:
        return None
    share = comparison.ratio - 1
    return _Change(
        candidate_us=comparison.candidate.step_us, saved_us=-share * comparison.baseline.step_us, share=share
    )


def _candidate(name: str, changes: Sequence[_Change | None], *, saves: bool) -> Iterator[Column]:
    """Yield the columns of a candidate: its time and its change, and with ``saves`` the time that it saves."""
    texts = [("us", "%"), *((significant(each.candidate_us), _percent(each)) if each else ("", "") for each in changes)]
    unit, *cells = pairs(texts)
    yield column(f"{name} (us, %)", (name, unit), cells)
    if saves:
        yield column("saved (us)", ("saved", "us"), [significant(each.saved_us) if each else "" for each in changes])


def _percent(each: _Change) -> str:
    return percent(each.share, sign=True)


def _number(calls: float) -> str:
    return f"{calls:.0f}" if calls >= 100 or calls == int(calls) else f"{calls:.3g}"


def _notes(comparison: StepComparison, step: StepTime, *, of_one_run: bool, saves: bool) -> Iterator[str]:
    if of_one_run:
        columns = "% and saved compare" if saves else "% compares"
        yield f"{columns} times of the same round, as all ratios do."
    elif step.shared_arm is not None:
        yield f"% is relative to {step.shared_arm}."
    twin = step.twin
    if twin is not None and twin.ratio is not None and comparison.baseline.arm == twin.baseline.arm:
        yield f"The twin of {twin.baseline.arm} differs by {change(twin)}."
    if step.other_groups:
        yield f"{step.other_groups.capitalize()}."
