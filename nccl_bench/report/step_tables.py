"""Tables of step times: what each message of a workload takes of a step, and what the candidate saves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.step_lines import change, named_arms
from nccl_bench.analysis.step_time import Contribution, StepComparison, StepTime
from nccl_bench.analysis.wording import counted, percent, significant
from nccl_bench.report.layout import Table, column

_ALL = "all messages"


def step_tables(analysis: Analysis, most: int | None = None) -> Iterator[Table]:
    """Yield a table for each comparison of step times that answers the question; none without a workload.

    If there are more messages than ``most``, the messages with the shortest times share a line.
    """
    step = analysis.step
    if step is not None:
        for comparison in step.of(analysis.asked_arms):
            yield _table(comparison, analysis.sides, step, most)


def _table(comparison: StepComparison, sides: tuple[str, str], step: StepTime, most: int | None) -> Table:
    first, second = named_arms(comparison, sides)
    parts = sorted(comparison.contributions, key=lambda each: -each.baseline_us)
    shown = len(parts) if most is None or len(parts) <= most else most - 1
    lines = [_Line.of(each.message.name, [each]) for each in parts[:shown]]
    if parts[shown:]:
        lines.append(_Line.of(counted(len(parts) - shown, "other message"), parts[shown:]))
    total = _Line.of(_ALL if not comparison.missing else f"{counted(len(parts), 'message')} with times", parts)
    if comparison.ratio is not None:
        base_us, candidate_us = comparison.baseline.step_us, comparison.candidate.step_us
        total = replace(
            total, baseline_us=base_us, candidate_us=candidate_us, saved_us=base_us * (1 - comparison.ratio)
        )
    lines.append(total)
    return Table(
        title=f"Step time by message: {second} against {first}, us a step",
        notes=tuple(_notes(comparison, step)),
        columns=(
            column("message", ("message",), [line.name for line in lines], left=True),
            column("calls", ("calls",), [_number(line.calls) for line in lines]),
            column(first, (first,), [significant(line.baseline_us) for line in lines]),
            column(second, (second,), [significant(line.candidate_us) for line in lines]),
            # Changes that are relative to another arm are none of the arm's own times.
            *(
                []
                if step.shared_arm is not None
                else [column("saved", ("saved",), [significant(line.saved_us) for line in lines])]
            ),
            column("%", ("%",), [line.percent for line in lines]),
        ),
        keep=2,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A line of the table: one message, or several."""

    name: str  # the message, or what the messages have in common
    calls: float  # the calls in a step
    baseline_us: float  # the time of the baseline, microseconds a step
    candidate_us: float  # the time of the candidate
    saved_us: float  # the time that the candidate saves

    @classmethod
    def of(cls, name: str, parts: Sequence[Contribution]) -> _Line:
        return cls(
            name=name,
            calls=sum(each.message.calls for each in parts),
            baseline_us=sum(each.baseline_us for each in parts),
            candidate_us=sum(each.candidate_us for each in parts),
            saved_us=sum(each.saved_us for each in parts),
        )

    @property
    def percent(self) -> str:
        return percent(-self.saved_us / self.baseline_us, sign=True) if self.baseline_us else ""


def _number(calls: float) -> str:
    return f"{calls:.0f}" if calls >= 100 or calls == int(calls) else f"{calls:.3g}"


def _notes(comparison: StepComparison, step: StepTime) -> Iterator[str]:
    if step.shared_arm is None:
        yield "saved and % compare times of the same round, as all ratios do."
    twin = step.twin
    if twin is not None and twin.ratio is not None and comparison.baseline.arm == twin.baseline.arm:
        yield f"The twin of {twin.baseline.arm} differs by {change(twin)}."
    if step.other_groups:
        yield f"{step.other_groups.capitalize()}."
