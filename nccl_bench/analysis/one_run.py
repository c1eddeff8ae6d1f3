"""Comparisons of the arms of one run, by pairs of times from the same round.

With one launch, an interval comes from the rounds, and the twin sets a noise floor. With several launches, it comes
from the launches' median ratios, so it contains communicator variance and needs no noise floor.
"""

from collections.abc import Iterable, Sequence

from nccl_bench.analysis.comparable import ComparableRun, Point, without_size
from nccl_bench.analysis.comparison import ArmPair, Basis, Comparison, Noise, compare_pairs
from nccl_bench.analysis.estimates import Estimate, Medians, mean_ratios
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
    cells, estimates = run.pairs(arms, base)
    medians = [[estimate.ratio] for estimate in estimates]
    if len(launches) > 1:
        of_launches = median_ratios(launches, arms, base)
        medians = [of_launches[cell] for cell in cells]
    several = any(len(of_launches) > 1 for of_launches in medians)
    of_pairs: Sequence[Estimate] = estimates
    if several:
        kinds = [(without_size(point), arm) for point, arm in cells]
        of_pairs = mean_ratios(
            [Medians(kind=kind, sides=(of_cell,)) for kind, of_cell in zip(kinds, medians, strict=True)]
        )
    medians_us = run.medians_us
    apart = {arm: run.in_different_processes(arm, base) for arm in arms}
    pairs = [
        ArmPair(
            point=point,
            baseline=base,
            candidate=arm,
            baseline_us=medians_us[*point, base],
            candidate_us=medians_us[*point, arm],
            estimate=estimate,
            placements=(run.placement(point, base), run.placement(point, arm)),
            kernels=run.kernels_with((*point, base), run, (*point, arm)),
            launches=len(of_pair),
            in_different_processes=apart[arm],
        )
        for (point, arm), of_pair, estimate in zip(cells, medians, of_pairs, strict=True)
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


def median_ratios(
    launches: Sequence[ComparableRun], arms: Sequence[str], base: str
) -> dict[tuple[Point, str], list[float]]:
    """Return, by point and arm, the median ratio of each launch in which a round has times of ``base`` too."""
    ratios: dict[tuple[Point, str], list[float]] = {}
    for launch in launches:
        for cell, estimate in zip(*launch.pairs(arms, base), strict=True):
            ratios.setdefault(cell, []).append(estimate.ratio)
    return ratios
