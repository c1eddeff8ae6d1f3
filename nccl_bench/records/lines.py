"""The lines of a run in the order of their file. Lines with samples are columns, and all other lines are objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import eq
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from nccl_bench.records.columns import Indexes, SampleColumns
from nccl_bench.records.columns_builder import ColumnsBuilder
from nccl_bench.records.schema import Entry, Samples

Kind = TypeVar("Kind", bound=Entry)
Other = TypeVar("Other")
# An iteration over the lines makes this many objects at once.
_AT_ONCE = 1000


class Lines(Sequence[Kind]):
    """Lines of ``samples.jsonl``. A line with samples becomes an object only when it is read."""

    __slots__ = ("others", "positions", "samples")

    def __init__(self, samples: SampleColumns, positions: Indexes, others: Mapping[int, Kind]) -> None:
        self.samples = samples  # the lines with samples
        self.positions = positions  # the position of each line with samples among all lines, increasing
        self.others = others  # all other lines by their position, in order

    @classmethod
    def of(cls, lines: Sequence[Kind]) -> Lines[Kind]:
        """Return ``lines`` as columns."""
        if isinstance(lines, Lines):
            return lines
        builder = ColumnsBuilder()
        positions = [position for position, line in enumerate(lines) if isinstance(line, Samples)]
        builder.append(builder.columns_of([lines[position] for position in positions]))
        others = {position: line for position, line in enumerate(lines) if not isinstance(line, Samples)}
        return cls(builder.build(), np.array(positions, dtype=np.intp), others)

    def only(self, samples: NDArray[np.bool_], others: Sequence[int]) -> Lines[Any]:
        """Return the lines with samples that a mask selects, and the other lines at the positions ``others``."""
        if samples.all() and len(others) == len(self.others):
            return self
        kept = without_gaps(self.positions[samples], {position: self.others[position] for position in others})
        return Lines(self.samples.take(samples), *kept)

    def __len__(self) -> int:
        return len(self.positions) + len(self.others)

    def __iter__(self) -> Iterator[Any]:
        position = 0
        for first in range(0, len(self.positions), _AT_ONCE):
            block = np.arange(first, min(first + _AT_ONCE, len(self.positions)))
            for line, of_line in zip(self.samples.take(block).lines(), self.positions[block].tolist(), strict=True):
                while position < of_line:
                    yield self.others[position]
                    position += 1
                yield line
                position += 1
        while position in self.others:
            yield self.others[position]
            position += 1

    @overload
    def __getitem__(self, index: int) -> Kind: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Kind]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return tuple(self)[index]
        position = range(len(self))[index]
        if position in self.others:
            return self.others[position]
        return self.samples.take(np.searchsorted(self.positions, [position])).lines()[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # lines can have millions of numbers

    def __repr__(self) -> str:
        return f"Lines.of({list(self)!r})"


def without_gaps(positions: Indexes, others: Mapping[int, Other]) -> tuple[Indexes, dict[int, Other]]:
    """Return ``positions``, and ``others`` by their positions, numbered from 0 in the same order."""
    in_order = np.sort(np.append(positions, [*others]).astype(np.intp))
    of_others = np.searchsorted(in_order, [*others]).tolist()
    return np.searchsorted(in_order, positions), dict(zip(of_others, others.values(), strict=True))
