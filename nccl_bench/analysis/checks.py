"""The results of the checks of outputs, arm by arm."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from nccl_bench.records.columns import SampleColumns
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmChecks:
    """The result of the checks of one arm's outputs. A cell is a case and a timing."""

    arm: str  # the arm
    right: int  # cells whose outputs were right
    wrong: int  # cells with wrong outputs
    unchecked: int  # cells that have times, but outputs that were not checked
    declined: int  # cells that the arm declined
    ended: int  # hangs and crashes of the arm
    tolerance_ulp: int | None  # the largest allowed error in ulp; 0 for equality, None if nothing was checked


def checks_of_arms(run: Run) -> tuple[ArmChecks, ...]:
    """Return the checks of each arm of ``run``, twins included."""
    ended = Counter(line.arm for line in run.others if isinstance(line, Hang | Crash) and line.arm)
    arms = dict.fromkeys((*run.samples.arm.distinct(), *ended))
    return tuple(_checks(arm, run.samples, ended[arm]) for arm in arms)


def _checks(arm: str, samples: SampleColumns, ended: int) -> ArmChecks:
    of_arm, checked = samples.arm.equals(arm), samples.wrong >= 0
    is_ok = of_arm & samples.status.equals(Status.OK)
    tolerances = samples.tolerance_ulp[of_arm & checked & (samples.tolerance_ulp >= 0)]
    return ArmChecks(
        arm=arm,
        right=int((is_ok & checked).sum()),
        wrong=int((of_arm & samples.status.equals(Status.WRONG)).sum()),
        unchecked=int((is_ok & ~checked).sum()),
        declined=int((of_arm & samples.status.equals(Status.DECLINED)).sum()),
        ended=ended,
        tolerance_ulp=int(tolerances.max()) if len(tolerances) else None,
    )
