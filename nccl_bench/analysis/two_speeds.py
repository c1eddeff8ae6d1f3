"""Find cells whose rounds come in two speeds, because the CPU changes its speed during a run.

The times of a round change together, so ratios within one run are right. Only the medians of times lie between two
speeds. A comparison of two runs divides such ratios by each other, and can be wrong: see `shared_arm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nccl_bench.analysis.summary import Row
from nccl_bench.catalog.cases import Case
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples

# Fewer rounds can look like two groups by chance.
_LEAST_ROUNDS = 9
# Each speed has at least this share of the rounds.
_LEAST_SHARE = 0.2
# The two groups explain at least this share of the variance of the times: even times reach 0.75, and normal ones 0.64.
_LEAST_EXPLAINED = 0.85

# The fields of a case, an arm and a timing.
_Cell = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoSpeeds:
    """The two speeds of a cell."""

    fast_us: float  # the mean time of the fast rounds, microseconds
    slow_us: float  # the mean time of the slow rounds, microseconds
    explained: float  # the share of the variance that the two groups explain


def find_two_speeds(run: Run, rows: Sequence[Row]) -> list[tuple[Row, TwoSpeeds]]:
    """Return each of ``rows``, which are of ``run``, whose rounds come in two speeds, with its speeds."""
    if not rows:
        return []
    cells = {_cell(row, row.arm, row.timing): row for row in rows}
    speeds_of: dict[_Cell, TwoSpeeds] = {}
    for line in run.lines:
        if isinstance(line, Samples):
            cell = _cell(line.case, line.arm, line.timing)
            speeds = two_speeds(line.samples_us) if cell in cells else None
            if speeds:
                speeds_of[cell] = speeds
    return [(cells[cell], speeds) for cell, speeds in speeds_of.items()]


def _cell(of: Case | Row, arm: str | None, timing: str | None) -> _Cell:
    return (of.scenario, of.collective, of.dtype, of.redop, of.placement, of.root, of.size_bytes, arm, timing)


def two_speeds(samples_us: Sequence[float]) -> TwoSpeeds | None:
    """Return the two speeds of ``samples_us``; ``None`` if they are too few or do not fall into two groups."""
    rounds = len(samples_us)
    least = max(2, int(np.ceil(_LEAST_SHARE * rounds)))
    if rounds < _LEAST_ROUNDS:
        return None
    times = np.sort(np.asarray(samples_us, dtype=float))
    fast = np.arange(least, rounds - least + 1)
    sums = np.cumsum(times)[fast - 1]
    fast_us, slow_us = sums / fast, (times.sum() - sums) / (rounds - fast)
    between = fast * (rounds - fast) / rounds * (slow_us - fast_us) ** 2
    best = int(np.argmax(between))
    total = float(((times - times.mean()) ** 2).sum())
    if not total or between[best] < _LEAST_EXPLAINED * total:
        return None
    return TwoSpeeds(fast_us=float(fast_us[best]), slow_us=float(slow_us[best]), explained=float(between[best] / total))
