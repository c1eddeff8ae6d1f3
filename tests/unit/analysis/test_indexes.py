import numpy as np
import pytest

from nccl_bench.analysis.indexes import indexes_in, starts_of


@pytest.mark.parametrize(
    ("numbers", "starts"), [([], []), ([0], [0]), ([0, 0, 3, 3, 3, 1], [0, 2, 5]), ([2, 0, 2], [0, 1, 2])]
)
def test_a_group_of_equal_numbers_begins_where_the_number_changes(numbers: list[int], starts: list[int]) -> None:
    assert starts_of(np.array(numbers, dtype=np.intp)).tolist() == starts


@pytest.mark.parametrize(
    ("known", "indexes"),
    [([], [-1, -1, -1]), ([5, -1, 7], [2, 0, -1]), ([7, 9, 5, 7], [0, 2, -1]), ([4], [-1, -1, -1])],
)
def test_indexes_are_those_of_the_first_equal_number(known: list[int], indexes: list[int]) -> None:
    numbers = np.array([7, 5, 0], dtype=np.intp)
    assert indexes_in(np.array(known, dtype=np.intp), numbers).tolist() == indexes
