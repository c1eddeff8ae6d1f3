"""Runs for comparisons of two sides, and their comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.two_sides import SidesComparison, compare_sides
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits
from tests.support.synthetic_runs import case

BASE, TWIN = "torch", "torch:twin"
SIZES = tuple(8 * 4**step for step in range(8))
LIMITS = Limits(default=0.02)


def compared(before: list[ComparableRun], after: list[ComparableRun], **options: Any) -> SidesComparison:
    """Compare the sides with a threshold of 2 %."""
    return compare_sides(before, after, LIMITS, **options)


def source(
    times: Mapping[str, float | Iterable[float]],
    name: str = "run",
    sizes: Iterable[int] = (8,),
    medians_only: bool = False,
) -> ComparableRun:
    """Return a run whose arms have these times in every case; a number stands for 20 equal rounds."""
    cells = {
        (case(size), Timing.GATED, arm): dict(enumerate([us] * 20 if isinstance(us, int | float) else us))
        for size in sizes
        for arm, us in times.items()
    }
    return ComparableRun(
        name=name, arms=tuple(arm for arm in times if arm != TWIN), cells=cells, medians_only=medians_only
    )


def side(*times_us: float, arm: str = "new") -> list[ComparableRun]:
    return [source({arm: time_us}) for time_us in times_us]


def verdicts(result: SidesComparison) -> list[Verdict | None]:
    return [each.verdict for each in result.comparisons]
