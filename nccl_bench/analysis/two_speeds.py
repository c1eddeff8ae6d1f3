"""Find cells whose rounds come in two speeds, because the CPU changes its speed during a run.

The times of a round change together, so ratios within one run are right. Only the medians of times lie between two
speeds. A comparison of two runs divides such ratios by each other, and can be wrong: see `shared_arm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nccl_bench.analysis.summary import Row
from nccl_bench.catalog.cases import Case, kind_of
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run

# Fewer rounds can look like two groups by chance.
_LEAST_ROUNDS = 9
# Each speed has at least this share of the rounds.
_LEAST_SHARE = 0.2
# The two groups explain at least this share of the variance of the times. Evenly distributed times reach 0.75, and
# normally distributed times 0.64.
_LEAST_EXPLAINED = 0.85

# The fields of a case, and of a case with an arm and a timing.
_Case = tuple[object, ...]
_Cell = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoSpeeds:
    """The two speeds of a cell."""

    fast_us: float  # the mean time of the fast rounds, microseconds
    slow_us: float  # the mean time of the slow rounds, microseconds
    explained: float  # the share of the variance that the two groups explain


def find_two_speeds(run: Run, rows: Sequence[Row]) -> list[tuple[Row, TwoSpeeds]]:
    """Return the rows whose rounds come in two speeds, each with its speeds; ``rows`` are rows of ``run``."""
    samples, by_cell = run.samples, {_cell(row, row.arm, row.timing): row for row in rows}
    by_case: dict[_Case, list[Row]] = {}
    for row in rows:
        by_case.setdefault(_case(row), []).append(row)
    cells = [
        (case, Timing(row.timing or ""), row.arm or "")
        for case in samples.case.values
        for row in by_case.get(_case(case), ())
    ]
    noisy = samples.take(samples.are_in(cells))
    by_line: dict[int, TwoSpeeds] = {}
    for lines in noisy.samples_us.of_equal_length():
        speeds = two_speeds(noisy.samples_us.matrix(lines))
        by_line |= {line: of_line for line, of_line in zip(lines.tolist(), speeds, strict=True) if of_line}
    speeds_of = {
        _cell(noisy.case[line], noisy.arm[line], noisy.timing[line]): by_line[line] for line in sorted(by_line)
    }
    return [(by_cell[cell], speeds) for cell, speeds in speeds_of.items()]


def _case(of: Case | Row) -> _Case:
    return (kind_of(of), of.size_bytes)


def _cell(of: Case | Row, arm: str | None, timing: str | None) -> _Cell:
    return (*_case(of), arm, timing)


def two_speeds(samples_us: NDArray[np.float64]) -> list[TwoSpeeds | None]:
    """Return the two speeds of each row; ``None`` for a row whose times are too few or do not form two groups."""
    cells, rounds = samples_us.shape
    least = max(2, int(np.ceil(_LEAST_SHARE * rounds)))
    if rounds < _LEAST_ROUNDS:
        return [None] * cells
    times = np.sort(samples_us, axis=1)
    fast = np.arange(least, rounds - least + 1)
    sums = np.cumsum(times, axis=1)[:, fast - 1]
    total_us = times.sum(axis=1, keepdims=True)
    fast_us, slow_us = sums / fast, (total_us - sums) / (rounds - fast)
    between = fast * (rounds - fast) / rounds * (slow_us - fast_us) ** 2
    best = between.argmax(axis=1)[:, None]
    fast_us, slow_us, between = (np.take_along_axis(column, best, 1)[:, 0] for column in (fast_us, slow_us, between))
    total = ((times - times.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    explained = np.divide(between, total, out=np.zeros(cells), where=total > 0)
    return [
        TwoSpeeds(fast_us=fast, slow_us=slow, explained=share) if two else None
        for fast, slow, share, two in zip(
            fast_us.tolist(),
            slow_us.tolist(),
            explained.tolist(),
            ((total > 0) & (between >= _LEAST_EXPLAINED * total)).tolist(),
            strict=True,
        )
    ]
