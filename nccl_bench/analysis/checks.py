"""The results of the checks of outputs, arm by arm."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nccl_bench.analysis.summary import Row
from nccl_bench.records.schema import Crash, Hang, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmChecks:
    """What the checks of one arm's outputs found. A cell is a case and a timing."""

    arm: str  # the arm
    right: int  # cells whose outputs were right
    wrong: int  # cells with wrong outputs
    unchecked: int  # cells with times whose outputs were not checked
    declined: int  # cells that the arm declined
    ended: int  # hangs and crashes of the arm
    tolerance_ulp: int | None  # the largest error that a check allowed, in ulp; 0: equality; None: nothing was checked


def checks_of_arms(rows: Iterable[Row]) -> tuple[ArmChecks, ...]:
    """Return the checks of each arm in ``rows``, twins included."""
    of_arms: dict[str, list[Row]] = {}
    for row in rows:
        if row.arm:
            of_arms.setdefault(row.arm, []).append(row)
    return tuple(_checks(arm, of_arm) for arm, of_arm in of_arms.items())


def _checks(arm: str, rows: list[Row]) -> ArmChecks:
    right = [row for row in rows if row.status == Status.OK and row.wrong is not None]
    tolerances = [row.tolerance_ulp for row in rows if row.tolerance_ulp is not None]
    return ArmChecks(
        arm=arm,
        right=len(right),
        wrong=sum(row.status == Status.WRONG for row in rows),
        unchecked=sum(row.status == Status.OK for row in rows) - len(right),
        declined=sum(row.status == Status.DECLINED for row in rows),
        ended=sum(row.status in (Hang.kind, Crash.kind) for row in rows),
        tolerance_ulp=max(tolerances, default=None),
    )
