"""One run's arms against its baseline: a verdict for every case and timing, above the noise floor of the same rounds.

The floor is an arm against its own twin, another communicator of the same kind: what differs between those two is what
a communicator's life alone can do. A verdict that this could have made is not given, and without a twin none is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nccl_bench.analysis.sources import Luck, Place, Source
from nccl_bench.analysis.statistics import DEFAULT_THRESHOLD, Comparison, Floor, Verdict, compare, holds_beyond
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import recorded_limits
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples, Status

# The threshold of a case: what matters in practice, as a share of the baseline's time.
Threshold = Callable[[Case, Timing], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One candidate in one case and timing.

    ``floor`` is how far from 1 the twin's interval reaches, up or down, as a share: 1 is a factor of 2. It is
    ``None`` where there is no twin. ``below_floor`` says that a verdict was withheld for it, or for want of it.
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
    source = _source(run)
    pairs: dict[tuple[Place, str], list[float]] = {}
    for case, timing, arm in source.cells:
        for name in names if arm == base else ():
            ratios = source.ratios((case, timing), name, base)
            if ratios:
                pairs[(case, timing), name] = ratios
    limits = [threshold(*place) for place, _ in pairs]
    luck = Luck(source, base)
    compared = []
    for (place, name), found in zip(pairs, compare(list(pairs.values()), limits), strict=True):
        floor = luck.floor(place, found.error)
        told = _above(found, floor)
        compared.append(
            Compared(
                case=place[0],
                timing=place[1],
                candidate=name,
                baseline=base,
                comparison=told,
                floor=None if floor is None else floor.share,
                below_floor=told is not found,
            )
        )
    return compared


def _source(run: Run) -> Source:
    cells = {
        (line.case, line.timing, line.arm): dict(zip(line.rounds, line.samples_us, strict=True))
        for line in run.lines
        if isinstance(line, Samples) and line.status is Status.OK
    }
    return Source(name=run.meta["name"], arms=run.arms, cells=cells)


def _above(found: Comparison, floor: Floor | None) -> Comparison:
    """``found``, or the same without its verdict where luck could have done as much."""
    if found.interval is None or found.verdict is Verdict.INCONCLUSIVE:
        return found
    holds = holds_beyond(found.interval, found.ratio, found.threshold, floor)
    return found if holds else replace(found, verdict=Verdict.INCONCLUSIVE)
