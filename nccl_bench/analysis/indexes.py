"""Functions that find equal numbers in arrays. Lines of columns are grouped and paired by such numbers."""

from __future__ import annotations

import numpy as np

from nccl_bench.records.columns import Indexes, ListColumn, ValueColumn


def starts_of(numbers: Indexes) -> Indexes:
    """Return where each group of equal neighbouring ``numbers`` begins; no number is negative."""
    return np.flatnonzero(np.diff(numbers, prepend=-1))


def indexes_in(known: Indexes, numbers: Indexes) -> Indexes:
    """Return the index in ``known`` of each of ``numbers``; -1 for a number that is not in it.

    ``numbers`` are not negative. If ``known`` has a number more than once, its first index counts.
    """
    order = np.argsort(known, kind="stable")
    at = np.searchsorted(known[order], numbers)
    is_known = np.append(known[order], -1)[at] == numbers
    indexes: Indexes = np.where(is_known, np.append(order, -1)[at], -1)
    return indexes


def round_codes(rounds: ValueColumn[tuple[int, ...]]) -> tuple[ListColumn, int]:
    """Replace each round number of each line by a code. Return the codes and how many there are.

    Equal round numbers have equal codes. Codes are small even if round numbers are large.
    """
    present, of_lines = np.unique(rounds.codes, return_inverse=True)
    numbers = ListColumn.of([rounds.values[code] for code in present.tolist()], np.int64)
    distinct, codes = np.unique(numbers.numbers, return_inverse=True)
    return ListColumn(codes, numbers.ends).take(of_lines), len(distinct)
