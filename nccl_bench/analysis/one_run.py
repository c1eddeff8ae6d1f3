"""Comparisons of the arms of one run, by pairs of times from the same round.

With one launch, an interval comes from the rounds, and the twin sets a noise floor. With several launches, it comes
from the launches' median ratios, so it contains communicator variance and needs no noise floor.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from nccl_bench.analysis.arm_pairs import ArmPairs, Noise, PairKind, compare_pairs
from nccl_bench.analysis.cells import Cells, PairedLines
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.estimates import EstimateList, Medians, mean_ratios
from nccl_bench.analysis.paired_ratios import PairedColumns
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
    cells, paired = run.cells, run.cells.paired(arms, base)
    # The first line of the baseline and the first line of the arm, for each pair.
    of_base, of_arm = paired.bases[paired.starts], paired.lines[paired.starts]
    launches = np.diff(paired.starts, append=len(paired.lines))
    several = bool((launches > 1).any())
    of_pairs = [cells.of_lines[line] for line in of_arm.tolist()]
    pairs = ArmPairs(
        case=cells.case.take(of_arm),
        timing=cells.timing.take(of_arm),
        baseline=cells.arm.take(of_base),
        candidate=cells.arm.take(of_arm),
        baseline_us=cells.medians_us[of_base].tolist(),
        candidate_us=cells.medians_us[of_arm].tolist(),
        estimates=_means_of_launches(cells, paired) if several else PairedColumns(paired.of_cells),
        placements=[
            (run.placement((case, timing), base), run.placement((case, timing), arm)) for case, timing, arm in of_pairs
        ],
        kernels=[run.kernels_with((case, timing, base), run, (case, timing, arm)) for case, timing, arm in of_pairs],
        launches=launches.tolist(),
        in_different_processes=cells.arm.take(of_arm).map(lambda arm: run.in_different_processes(arm, base)),
    )
    if several:
        return compare_pairs(pairs, limits, Basis.LAUNCHES)
    return compare_pairs(pairs, limits, Basis.ROUNDS, _NoiseOfRun(run, base))


def _means_of_launches(cells: Cells, paired: PairedLines) -> EstimateList:
    """Return the mean of each cell's median ratios. Each launch with a round of both arms has one median ratio."""
    of_cells = zip(paired.lines[paired.starts].tolist(), median_ratios(paired), strict=True)
    medians = []
    for line, of_cell in of_cells:
        case, timing, arm = cells.of_lines[line]
        medians.append(Medians(kind=(case.kind, timing, arm), sides=(of_cell,)))
    return EstimateList(mean_ratios(medians))


class _NoiseOfRun(Noise):
    """The communicator variance of one run."""

    def __init__(self, run: ComparableRun, base: str) -> None:
        self._run = run
        self._variance = CommunicatorVariance(run, base)

    def floor(self, kind: PairKind, sizes: int) -> float | None:
        apart = self._run.in_different_processes(kind.candidate, kind.baseline)
        return self._variance.floor(kind.point, sizes, in_different_processes=apart)

    def scatter(self, kind: PairKind) -> float:
        return self._variance.scatter(kind.point)


def basis_of(comparisons: Iterable[Comparison]) -> Basis:
    """Return the data from which ``compare_arms`` computed the verdicts of ``comparisons``."""
    return Basis.LAUNCHES if any(each.launches > 1 for each in comparisons) else Basis.ROUNDS


def median_ratios(paired: PairedLines) -> list[list[float]]:
    """Return the median ratios of each cell of ``paired``. Each launch with a round of both arms has one."""
    medians = PairedColumns(paired.ratios).ratios
    return [medians[first:after] for first, after in pairwise([*paired.starts.tolist(), len(medians)])]
