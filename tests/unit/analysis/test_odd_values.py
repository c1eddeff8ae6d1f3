"""Values that differ from the others of their segment, on planted numbers."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from nccl_bench.analysis.odd_values import odd_distance, odd_values


def test_a_value_is_odd_if_its_distance_from_the_mean_of_the_others_is_larger_than_the_limit() -> None:
    limit = odd_distance([0, 0, 0, 0], 1)
    # For four values, 5 % is 1.25 % for each. The mean of the three others has an error of its own.
    assert limit == pytest.approx(NormalDist().inv_cdf(1 - 0.0125 / 2) * (4 / 3) ** 0.5)
    assert odd_values([0, 0, 1.01 * limit, 0], 1) == [2]
    assert odd_values([0, 0, 0.99 * limit, 0], 1) == []
    assert odd_values([0, -9, 0, 0, 0, 9], 1) == [1, 5]


def test_a_value_far_away_does_not_make_the_others_odd() -> None:
    assert odd_values([0, 0, 0, 0, 100], 0.001) == [4]


def test_values_that_lie_apart_allow_a_larger_distance() -> None:
    values = [-2.0, -1.0, 0.0, 1.0, 2.0, 6.0]
    assert odd_values(values, 0.001) == []
    assert odd_values([value / 10 for value in values[:-1]] + [6.0], 0.001) == [5]


def test_equal_values_are_not_odd_even_without_a_deviation() -> None:
    assert odd_values([1.0] * 28, 0.0) == []
    assert odd_values([1.0], 0.0) == []


def test_few_equal_values_are_odd() -> None:
    rng = np.random.default_rng(1)
    assert sum(bool(odd_values(rng.normal(0, 1, 28).tolist(), 1)) for _ in range(400)) / 400 < 0.05
