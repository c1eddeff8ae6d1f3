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
        self._parts: dict[str, list[Any]] = {name: [] for name in COLUMNS}

    def columns_of(self, lines: Sequence[Any], as_json: Collection[str] = ()) -> dict[str, Any]:
        """Return the columns of ``lines``, objects with the attributes of ``Samples``.

        The attributes ``as_json`` have the JSON of their value, and ``codes`` know it.
        """
        columns: dict[str, Any] = {}
        members = zip(*map(attrgetter(*COLUMNS), lines), strict=True) if lines else [()] * len(COLUMNS)
        for name, values in zip(COLUMNS, members, strict=True):
            if name in LISTS:
                columns[name] = ListColumn.of(values, LISTS[name])
            elif name in VALUES:
                # The codes of JSON have bytes as keys. An absent field is None, and stays None.
                keys = [None if value is None else bytes(value) for value in values] if name in as_json else values
                columns[name] = np.fromiter(map(self._codes[name].__getitem__, keys), np.int32, len(lines))
            else:
                numbers = [-1 if value is None else value for value in values] if name in CAN_BE_ABSENT else values
                columns[name] = np.array(numbers, dtype=np.int64)
        return columns

    def append(self, columns: Mapping[str, Any]) -> None:
        """Append columns that ``columns_of`` returned."""
        for name, part in columns.items():
            self._parts[name].append(part)

    def build(self) -> SampleColumns:
        """Return the columns of all lines that were appended."""
        columns: dict[str, Any] = {}
        # One column after the other: then only one of them is in memory twice.
        for name, parts in self._parts.items():
            if name in LISTS:
                numbers = _joined([part.numbers for part in parts], LISTS[name])
                lengths = _joined([part.lengths for part in parts], np.intp)
                columns[name] = ListColumn.with_lengths(numbers, lengths)
            elif name in VALUES:
                columns[name] = ValueColumn(tuple(self._codes[name].in_order), _joined(parts, np.int32))
            else:
                columns[name] = _joined(parts, np.int64)
            parts.clear()
        return SampleColumns(**columns)


def _joined(parts: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, dtype)
