"""Comparisons of the arms of one run, by pairs of times from the same round."""

from collections.abc import Sequence

from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import ArmPair, Basis, Comparison, compare_pairs
from nccl_bench.analysis.estimates import PairedRatios
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
    pairs = []
    for case, timing, measured in run.cells:
        point = (case, timing)
        for arm in arms if measured == base else ():
            base_us, arm_us = run.median_us(point, base), run.median_us(point, arm)
            ratios = run.ratios(point, arm, base)
            if ratios and base_us is not None and arm_us is not None:
                pairs.append(
                    ArmPair(
                        point=point,
                        baseline=base,
                        candidate=arm,
                        baseline_us=base_us,
                        candidate_us=arm_us,
                        estimate=PairedRatios(ratios),
                        placements=(run.placement(point, base), run.placement(point, arm)),
                    )
                )
    return compare_pairs(pairs, limits, Basis.ROUNDS, CommunicatorVariance(run, base).floor)
