"""The lines of the headline about step times: the communication time of a step, in one sentence for each candidate."""

from collections.abc import Iterator, Mapping, Sequence

from nccl_bench.analysis.headline import Fact, HeadlineLine, Label
from nccl_bench.analysis.judging import OpenReason
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Interval, Verdict
from nccl_bench.analysis.step_messages import calls_text
from nccl_bench.analysis.step_time import ArmStep, StepComparison, StepTime
from nccl_bench.analysis.verdict_words import WHY_OPEN
from nccl_bench.analysis.warning_texts import WarningText
from nccl_bench.analysis.wording import counted, format_share, joined, percent, with_notes

_LABELS: Mapping[Verdict | None, Label] = {
    Verdict.FASTER: Label.FASTER,
    Verdict.SLOWER: Label.SLOWER,
    Verdict.EQUIVALENT: Label.SAME,
    Verdict.INCONCLUSIVE: Label.OPEN,
    None: Label.OPEN,
}
# Why a step time is open, behind the numbers.
_OPEN: Mapping[OpenReason | None, str] = {
    **WHY_OPEN,
    OpenReason.WITHIN_NOISE: "within noise{of}",
    OpenReason.SHARED_ARM_MOVED: "the machine alone may have changed it",
}
# A sentence names this many messages at most. Each has at least this share of the largest difference.
_MOST_CONTRIBUTIONS = 2
_SHARE_OF_LARGEST = 0.25
# From this time on, a step is shown in milliseconds.
_MILLISECOND_US = 100.0


def step_facts(step: StepTime) -> Iterator[Fact]:
    """Yield the source of the messages, and the confidence in the verdicts about step times."""
    workload = step.workload
    text = f"{counted(workload.calls, 'call')} in {counted(workload.steps, 'step')}"
    text += f", from {joined(workload.source)}" if workload.source else ""
    if any(each.is_decided for each in step.comparisons):
        text += f"; {percent(1 - FAMILYWISE_ERROR)} % that no verdict about a step is wrong"
    yield Fact(name="Step", text=text)


def step_lines(step: StepTime, candidates: Sequence[str] | None, sides: tuple[str, str]) -> Iterator[HeadlineLine]:
    """Yield a line for each of ``candidates``; ``None`` stands for all. ``sides`` are the names of the two sides."""
    comparisons = step.of(candidates)
    for comparison in comparisons:
        text = _sentence(comparison, sides, step)
        yield HeadlineLine(label=_LABELS[comparison.verdict], timing=None, text=_with_other_groups(text, step))
    if not comparisons:
        for arm in step.arms:
            yield HeadlineLine(label=Label.STEP, timing=None, text=_with_other_groups(_alone(arm, step), step))


def step_warnings(step: StepTime) -> Iterator[str]:
    """Yield a warning if the twin gets a verdict that no twin should get."""
    twin = step.twin
    if twin is not None and twin.verdict in (Verdict.FASTER, Verdict.SLOWER):
        yield WarningText.TWIN_STEP_DIFFERS.format(
            baseline=twin.baseline.arm, verdict=twin.verdict, change=change(twin)
        )


def _sentence(comparison: StepComparison, sides: tuple[str, str], step: StepTime) -> str:
    baseline, candidate = comparison.baseline, comparison.candidate
    names = named_arms(comparison, sides)
    if comparison.missing:
        return f"no step time of {joined(_without_time(comparison, names))}: {_missing(comparison, step)}"
    if comparison.ratio is None:
        return f"the step times of {joined(names)} are not compared: a message has no round with times of both arms"
    before, after = time_texts(baseline.step_us, candidate.step_us)
    relative = f", relative to {step.shared_arm}" if step.shared_arm is not None else ""
    text = (
        f"{names[1]} takes {after} a step where {names[0]} takes {before.partition(' ')[0]} "
        f"({change(comparison)}{relative})"
    )
    if comparison.verdict is not Verdict.EQUIVALENT and not relative and (parts := _contributions(comparison, after)):
        text += f", of it {parts}"
    if not comparison.is_decided:
        text += f": {_open(comparison)}"
    return text


def named_arms(comparison: StepComparison, sides: tuple[str, str]) -> tuple[str, str]:
    """Return the names of both arms; if two sides are compared, each with the name of its side."""
    first, second = comparison.baseline.arm, comparison.candidate.arm
    if sides == ("baseline", "candidate"):
        return first, second
    return with_notes(first, sides[0]), with_notes(second, sides[1])


def _alone(arm: ArmStep, step: StepTime) -> str:
    if arm.missing:
        return f"no step time of {arm.arm}: {_missing(arm, step)}"
    (text,) = time_texts(arm.step_us)
    return f"{arm.arm} takes {text} a step{_between(arm)}"


def _between(arm: ArmStep) -> str:
    if arm.interval is None:
        return ""
    low, high = time_texts(arm.interval.low, arm.interval.high)
    return f" ({low.partition(' ')[0]} to {high})"


def _with_other_groups(text: str, step: StepTime) -> str:
    return f"{text}; {step.other_groups}" if step.other_groups else text


def _without_time(comparison: StepComparison, names: Sequence[str]) -> list[str]:
    arms = (comparison.baseline, comparison.candidate)
    return [name for name, arm in zip(names, arms, strict=True) if arm.missing]


def _missing(of: ArmStep | StepComparison, step: StepTime) -> str:
    without = {each.message for each in of.missing}
    why = ", ".join(dict.fromkeys(f"{each.message.name}: {each.reason}" for each in of.missing))
    return f"no time for {calls_text(without, step.messages)} ({why})"


def change(comparison: StepComparison) -> str:
    """Return the change in percent with its interval: -12 %, -14 to -11."""
    if comparison.ratio is None:
        return ""
    text = f"{percent(comparison.ratio - 1, sign=True)} %"
    return f"{text}, {_range(comparison.interval)}" if comparison.interval is not None else text


def _range(interval: Interval) -> str:
    low, high = (percent(end - 1, sign=True) for end in (interval.low, interval.high))
    if low == high:
        low, high = (f"{(end - 1) * 100:+.1f}" for end in (interval.low, interval.high))
    return f"{low} to {high}"


def _open(comparison: StepComparison) -> str:
    floor = comparison.noise_floor
    of = f" of {format_share(floor)}" if floor else ""
    return _OPEN[comparison.reason].format(threshold=format_share(comparison.threshold), of=of)


def _contributions(comparison: StepComparison, total: str) -> str:
    """Return the messages with the largest differences in the direction of the step time."""
    slower = comparison.ratio is not None and comparison.ratio > 1
    alike = [each for each in comparison.largest if (each.saved_us < 0) is slower]
    if len(comparison.contributions) == 1 or not alike:
        return ""
    chosen = [each for each in alike if abs(each.saved_us) >= _SHARE_OF_LARGEST * abs(alike[0].saved_us)]
    number, _, unit = total.partition(" ")
    decimals = len(number.partition(".")[2])
    scale = 1e3 if unit == "ms" else 1.0
    amounts = [f"{abs(each.saved_us) / scale:.{decimals}f}" for each in chosen]
    texts = [
        f"{amount} {unit} in {each.message.name}" for amount, each in zip(amounts, chosen, strict=True) if float(amount)
    ]
    return joined(texts[:_MOST_CONTRIBUTIONS]) if texts else ""


def time_texts(*times_us: float) -> list[str]:
    """Return times with one unit and the same number of decimals: 0.412 ms, 47.3 us. The largest has three digits."""
    largest = max(map(abs, times_us))
    unit, scale = ("ms", 1e3) if largest >= _MILLISECOND_US else ("us", 1.0)
    digits = 3 - len(f"{int(largest / scale)}") if largest / scale >= 1 else 3
    return [f"{time_us / scale:.{max(0, digits)}f} {unit}" for time_us in times_us]
