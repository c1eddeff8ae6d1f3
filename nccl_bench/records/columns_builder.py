"""Makes the columns of lines that come block by block."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nccl_bench.records.columns import (
    CAN_BE_ABSENT,
    COLUMNS,
    LISTS,
    VALUES,
    Codes,
    ListColumn,
    SampleColumns,
    ValueColumn,
)


class ColumnsBuilder:
    """Makes the columns of lines that come block by block."""

    def __init__(self, codes: Mapping[str, Codes] | None = None) -> None:
        self._codes = codes or {name: Codes() for name in VALUES}
        # A column of lists has two arrays: the numbers and the lengths.
        self._growing = {name: [_Growing(dtype) for dtype in _dtypes(name)] for name in COLUMNS}

    def columns_of(self, lines: Sequence[Any], as_json: Collection[str] = ()) -> dict[str, Any]:
        """Return the columns of ``lines``, objects with the attributes of ``Samples``.

        The attributes ``as_json`` hold the JSON of a value; ``codes`` must have this JSON as a key.
        """
        columns: dict[str, Any] = {}
        members = zip(*map(attrgetter(*COLUMNS), lines), strict=True) if lines else [()] * len(COLUMNS)
        for name, values in zip(COLUMNS, members, strict=True):
            if name in LISTS:
                columns[name] = ListColumn.of(values, LISTS[name])
            elif name in VALUES:
                # The keys for JSON are bytes. An absent field is None, and None is its key.
                keys = [None if value is None else bytes(value) for value in values] if name in as_json else values
                columns[name] = np.fromiter(map(self._codes[name].__getitem__, keys), np.int32, len(lines))
            else:
                numbers = [-1 if value is None else value for value in values] if name in CAN_BE_ABSENT else values
                columns[name] = np.array(numbers, dtype=np.int64)
        return columns

    def append(self, columns: Mapping[str, Any]) -> None:
        """Append columns that ``columns_of`` returned."""
        for name, column in columns.items():
            parts = (column.numbers, column.lengths) if name in LISTS else (column,)
            for part, growing in zip(parts, self._growing[name], strict=True):
                growing.append(part)

    def build(self) -> SampleColumns:
        """Return the columns of all lines that were appended, and forget these lines."""
        columns: dict[str, Any] = {}
        for name, growing in self._growing.items():
            whole = [each.release() for each in growing]
            if name in LISTS:
                columns[name] = ListColumn.with_lengths(*whole)
            elif name in VALUES:
                columns[name] = ValueColumn(tuple(self._codes[name].in_order), *whole)
            else:
                (columns[name],) = whole
        return SampleColumns(**columns)


def _dtypes(name: str) -> tuple[Any, ...]:
    return (LISTS[name], np.intp) if name in LISTS else (np.int32 if name in VALUES else np.int64,)


class _Growing:
    """An array that grows. Parts that are joined at the end would leave holes in the memory of a long run."""

    def __init__(self, dtype: Any) -> None:
        self._numbers: NDArray[Any] = np.empty(0, dtype)
        self._length = 0  # behind it is space for more

    def append(self, part: NDArray[Any]) -> None:
        end = self._length + len(part)
        if end > len(self._numbers):
            # Nothing else refers to the array.
            self._numbers.resize(max(end, len(self._numbers) * 5 // 4), refcheck=False)
        self._numbers[self._length : end] = part
        self._length = end

    def release(self) -> NDArray[Any]:
        """Return the numbers, and begin with none again: an array that others use must keep its memory."""
        numbers, self._numbers = self._numbers, np.empty(0, self._numbers.dtype)
        numbers.resize(self._length, refcheck=False)
        self._length = 0
        return numbers
