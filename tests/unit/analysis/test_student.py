"""Quantiles of Student's distribution."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from nccl_bench.analysis.student import student_quantile
from tests.support.chance import at_most

# Two-sided, from printed tables of Student's distribution.
TABULATED = {
    1: {0.5: 1.000, 0.1: 6.314, 0.05: 12.706, 0.01: 63.657, 0.001: 636.619},
    2: {0.5: 0.816, 0.1: 2.920, 0.05: 4.303, 0.01: 9.925, 0.001: 31.599},
    3: {0.5: 0.765, 0.1: 2.353, 0.05: 3.182, 0.01: 5.841, 0.001: 12.924},
    4: {0.5: 0.741, 0.1: 2.132, 0.05: 2.776, 0.01: 4.604, 0.001: 8.610},
    5: {0.5: 0.727, 0.1: 2.015, 0.05: 2.571, 0.01: 4.032, 0.001: 6.869},
    10: {0.5: 0.700, 0.1: 1.812, 0.05: 2.228, 0.01: 3.169, 0.001: 4.587},
    30: {0.5: 0.683, 0.1: 1.697, 0.05: 2.042, 0.01: 2.750, 0.001: 3.646},
    120: {0.5: 0.677, 0.1: 1.658, 0.05: 1.980, 0.01: 2.617, 0.001: 3.373},
}


@pytest.mark.parametrize("freedom", TABULATED)
def test_student_quantiles_agree_with_printed_tables(freedom: int) -> None:
    for error, quantile in TABULATED[freedom].items():
        assert student_quantile(error, freedom) == pytest.approx(quantile, abs=6e-4)


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 9, 50])
def test_student_quantiles_grow_down_to_the_smallest_error(freedom: int) -> None:
    quantiles = [student_quantile(10.0**-power, freedom) for power in range(16)]
    assert all(first < second for first, second in pairwise(quantiles))
    assert quantiles[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("first", "second"), [(2, 2), (2, 5), (4, 4)])
def test_a_mean_is_off_by_a_student_quantile_as_often_as_its_error_says(first: int, second: int) -> None:
    rng = np.random.default_rng(8)
    tries, error = 20_000, 0.1
    groups = rng.normal(size=(tries, first)), rng.normal(size=(tries, second))
    spread = sum(group.var(axis=1) * group.shape[1] for group in groups) / (first + second - 2)
    off = abs(groups[0].mean(axis=1) - groups[1].mean(axis=1)) / np.sqrt(spread * (1 / first + 1 / second))
    missed = int((off > student_quantile(error, first + second - 2)).sum())
    assert at_most(missed, tries, error)
    assert at_most(tries - missed, tries, 1 - error)
