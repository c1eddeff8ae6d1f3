"""The results of the checks of outputs, arm by arm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nccl_bench.records.schema import Crash, Hang, Line, Samples, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmChecks:
    """The result of the checks of one arm's outputs. A cell is a case and a timing."""

    arm: str  # the arm
    right: int  # cells whose outputs were right
    wrong: int  # cells with wrong outputs
    unchecked: int  # cells with times whose outputs were not checked
    declined: int  # cells that the arm declined
    ended: int  # hangs and crashes of the arm
    tolerance_ulp: int | None  # the largest error that a check allowed, in ulp; 0: equality; None: nothing was checked


def checks_of_arms(lines: Iterable[Line]) -> tuple[ArmChecks, ...]:
    """Return the checks of each arm in ``lines``, twins included."""
    of_arms: dict[str, list[Samples | Hang | Crash]] = {}
    for line in lines:
        if isinstance(line, Samples | Hang | Crash) and line.arm:
            of_arms.setdefault(line.arm, []).append(line)
    return tuple(_checks(arm, of_arm) for arm, of_arm in of_arms.items())


def _checks(arm: str, lines: Sequence[Samples | Hang | Crash]) -> ArmChecks:
    samples = [line for line in lines if isinstance(line, Samples)]
    statuses = Counter(line.status for line in samples)
    right = sum(line.status is Status.OK and line.wrong is not None for line in samples)
    return ArmChecks(
        arm=arm,
        right=right,
        wrong=statuses[Status.WRONG],
        unchecked=statuses[Status.OK] - right,
        declined=statuses[Status.DECLINED],
        ended=len(lines) - len(samples),
        tolerance_ulp=max(
            (line.tolerance_ulp for line in samples if line.wrong is not None and line.tolerance_ulp is not None),
            default=None,
        ),
    )
