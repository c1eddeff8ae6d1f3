"""Values that differ from the others of their segment, on planted numbers."""

from __future__ import annotations

from nccl_bench.analysis.odd_values import odd_values


def odd(values: list[float], *, reach: float = 1.0, scatter: float = 0.0) -> list[int]:
    """Return the odd values; each interval reaches ``reach`` to both sides of its value."""
    ranges = [(value - reach, value + reach) for value in values]
    return odd_values(values, [0.001] * len(values), ranges, scatter)


def test_a_value_is_odd_if_its_interval_excludes_the_mean_of_the_others() -> None:
    assert odd([0, 0, 1.1, 0]) == [2]
    assert odd([0, 0, 0.9, 0]) == []
    assert odd([0, 5, 0, 0, -5, 0]) == [1, 4]


def test_scatter_allows_a_larger_distance() -> None:
    assert odd([0, 0, 5.1, 0], reach=3, scatter=4) == [2]
    assert odd([0, 0, 4.9, 0], reach=3, scatter=4) == []


def test_a_value_far_away_does_not_make_the_others_odd() -> None:
    assert odd([0, 0, 0, 0, 100]) == [4]


def test_equal_values_are_not_odd_even_if_their_intervals_have_no_width() -> None:
    assert odd([1.0] * 28, reach=0.0) == []
    assert odd([1.0]) == []
