"""Comparisons of the arms of one run, by pairs of times from the same round.

With one launch, an interval comes from the rounds, and the twin sets a noise floor. With several launches, it comes
from the launches' median ratios, so it contains communicator variance and needs no noise floor.
"""

from collections.abc import Iterable, Sequence
from statistics import median

from nccl_bench.analysis.comparable import ComparableRun, Point, Rounds, ratios_of_rounds, without_size
from nccl_bench.analysis.comparison import ArmPair, Basis, Comparison, Noise, compare_pairs
from nccl_bench.analysis.estimates import Estimate, Medians, PairedRatios, mean_ratios, median_ratio
from nccl_bench.analysis.variance import CommunicatorVariance
from nccl_bench.config.limits import Limits


def compare_arms(
    run: ComparableRun, limits: Limits, *, baseline: str | None = None, candidates: Sequence[str] | None = None
) -> tuple[Comparison, ...]:
    """Return every comparison of ``run``, in the order of measurement.

    Without ``baseline`` and ``candidates``, all arms are compared with the run's own baseline. A case and
    timing has no comparison if one of the two arms has wrong results, or if no round has times of both arms.
    """
    base = run.arms[0] if baseline is None else baseline
    arms = [arm for arm in run.arms if arm != base] if candidates is None else candidates
    launches = run.launches()
    estimated: list[tuple[Point, str, Estimate, Rounds]] = [
        (point, arm, PairedRatios(ratios), times[arm])
        for point, times in run.by_point.items()
        for arm in (arms if base in times else ())
        if arm in times and (ratios := ratios_of_rounds(times[arm], times[base]))
    ]
    medians = [
        median_ratios(launches, point, arm, base) if len(launches) > 1 else [estimate.ratio]
        for point, arm, estimate, _ in estimated
    ]
    several = any(len(of_launches) > 1 for of_launches in medians)
    estimates: Sequence[Estimate] = [estimate for _, _, estimate, _ in estimated]
    if several:
        kinds = [(without_size(point), arm) for point, arm, _, _ in estimated]
        estimates = mean_ratios(
            [Medians(kind=kind, sides=(of_cell,)) for kind, of_cell in zip(kinds, medians, strict=True)]
        )
    # Several arms are compared with the same time of the baseline.
    baseline_us = {point: median(times[base].values()) for point, times in run.by_point.items() if base in times}
    pairs = [
        ArmPair(
            point=point,
            baseline=base,
            candidate=arm,
            baseline_us=baseline_us[point],
            candidate_us=median(times.values()),
            estimate=estimate,
            placements=(run.placement(point, base), run.placement(point, arm)),
            launches=len(of_launches),
            in_different_processes=run.in_different_processes(arm, base),
        )
        for (point, arm, _, times), of_launches, estimate in zip(estimated, medians, estimates, strict=True)
    ]
    if several:
        return compare_pairs(pairs, limits, Basis.LAUNCHES)
    return compare_pairs(pairs, limits, Basis.ROUNDS, _NoiseOfRun(CommunicatorVariance(run, base)))


class _NoiseOfRun(Noise):
    """The communicator variance of one run."""

    def __init__(self, variance: CommunicatorVariance) -> None:
        self._variance = variance

    def floor(self, pair: ArmPair, sizes: int) -> float | None:
        return self._variance.floor(pair.point, sizes, in_different_processes=pair.in_different_processes)

    def scatter(self, pair: ArmPair) -> float:
        return self._variance.scatter(pair.point)


def basis_of(comparisons: Iterable[Comparison]) -> Basis:
    """Return the data from which ``compare_arms`` computed the verdicts of ``comparisons``."""
    return Basis.LAUNCHES if any(each.launches > 1 for each in comparisons) else Basis.ROUNDS


def median_ratios(launches: Sequence[ComparableRun], point: Point, arm: str, base: str) -> list[float]:
    """Return the median ratio of each launch in which a round has times of both arms."""
    ratios = (launch.ratios(point, arm, base) for launch in launches)
    return [median_ratio(of_launch) for of_launch in ratios if of_launch]
