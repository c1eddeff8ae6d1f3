"""One run's arms against its baseline: a verdict for every case and timing, above the noise floor of the same rounds.

The floor is the baseline against its own twin, another communicator of the same kind: what differs between those two
is what a communicator's life alone can do. A verdict that this could have made is not given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from nccl_bench.analysis.statistics import DEFAULT_THRESHOLD, Comparison, Verdict, compare, holds_beyond, interval
from nccl_bench.capabilities import twin_of
from nccl_bench.collectives import Case, Timing
from nccl_bench.limits import recorded_limits
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Line, Samples, Status

# Standard deviations, which one in twenty is beyond.
_EASILY = 2.0
# The threshold of a case: what matters in practice, as a share of the baseline's time.
Threshold = Callable[[Case, Timing], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One candidate in one case and timing.

    ``floor`` is how far from 1 the twin's interval reaches, as a share; ``None`` where there is no twin.
    ``below_floor`` says that a verdict was withheld for it.
    """

    case: Case
    timing: Timing
    candidate: str
    baseline: str
    comparison: Comparison
    floor: float | None
    below_floor: bool

    @property
    def verdict(self) -> Verdict:
        """What holds, the noise floor considered."""
        return self.comparison.verdict


def of_run(run: Run) -> list[Compared]:
    """All arms of ``run`` against its baseline, by the thresholds that it was measured for."""
    limits = recorded_limits(run.meta["config"], DEFAULT_THRESHOLD, f"the run {run.meta['name']}")
    return within(run, lambda case, timing: limits.threshold(case.collective, timing, case.size_bytes))


def within(
    run: Run, threshold: Threshold, *, baseline: str | None = None, candidates: Sequence[str] | None = None
) -> list[Compared]:
    """Every comparison of ``run``, in the order measured; by default of all its arms against its own baseline.

    Nothing is compared where an arm was wrong, or has no round in common with the baseline.
    """
    base = run.baseline if baseline is None else baseline
    names = [arm for arm in run.arms if arm != base] if candidates is None else candidates
    times = _times(run.lines)
    pairs: dict[tuple[Case, Timing, str], list[float]] = {}
    for case, timing, arm in times:
        for name in names if arm == base else ():
            ratios = _ratios(times, (case, timing), name, base)
            if ratios:
                pairs[case, timing, name] = ratios
    limits = [threshold(case, timing) for case, timing, _ in pairs]
    twins = {(case, timing): _ratios(times, (case, timing), twin_of(base), base) for case, timing, _ in pairs}
    usual = _usual_luck(twins)
    compared = []
    for (case, timing, name), found in zip(pairs, compare(list(pairs.values()), limits), strict=True):
        twin = twins[case, timing]
        floor = _floor(twin, found) if twin else None
        told = found if floor is None else _above(found, floor, max(abs(median(twin) - 1), usual[_kind(case, timing)]))
        compared.append(
            Compared(
                case=case,
                timing=timing,
                candidate=name,
                baseline=base,
                comparison=told,
                floor=floor,
                below_floor=told is not found,
            )
        )
    return compared


_Times = Mapping[tuple[Case, Timing, str], Mapping[int, float]]


def _times(lines: Sequence[Line]) -> _Times:
    return {
        (line.case, line.timing, line.arm): dict(zip(line.rounds, line.samples_us, strict=True))
        for line in lines
        if isinstance(line, Samples) and line.status is Status.OK
    }


def _ratios(times: _Times, place: tuple[Case, Timing], arm: str, base: str) -> list[float]:
    """Of the rounds that both have, in order."""
    baseline_us = times[(*place, base)]
    arm_us = times.get((*place, arm), {})
    return [time_us / baseline_us[number] for number, time_us in arm_us.items() if number in baseline_us]


def _kind(case: Case, timing: Timing) -> tuple[Case, Timing]:
    """What sizes of one sweep have in common."""
    return replace(case, size_bytes=0, count=0), timing


def _usual_luck(twins: Mapping[tuple[Case, Timing], Sequence[float]]) -> dict[tuple[Case, Timing], float]:
    """How far from 1 a twin of each kind easily is, by all its sizes: at one size a twin can be lucky too."""
    squares: dict[tuple[Case, Timing], list[float]] = {}
    for (case, timing), twin in twins.items():
        if twin:
            squares.setdefault(_kind(case, timing), []).append((median(twin) - 1) ** 2)
    return {kind: _EASILY * math.sqrt(fmean(of_kind)) for kind, of_kind in squares.items()}


def _floor(twin: Sequence[float], found: Comparison) -> float:
    """How far from 1 the twin may be, at the level of the comparison itself."""
    bounds = interval(twin, found.error)
    # Too few rounds for an interval: what was seen of it, which the comparison's own lack of one goes beyond.
    low, high = (bounds.low, bounds.high) if bounds else (min(twin), max(twin))
    return max(high - 1, 1 - low, 0.0)


def _above(found: Comparison, floor: float, seen: float) -> Comparison:
    """``found``, or the same without its verdict where a twin, ``seen`` from 1 itself, could have done as much."""
    if found.interval is None or found.verdict is Verdict.INCONCLUSIVE:
        return found
    if found.verdict is Verdict.EQUIVALENT:
        # That two things are the same within the threshold is about the threshold itself.
        holds = floor < found.threshold
    else:
        holds = floor < abs(found.ratio - 1) and holds_beyond(found.interval, found.threshold, seen)
    return found if holds else replace(found, verdict=Verdict.INCONCLUSIVE)
