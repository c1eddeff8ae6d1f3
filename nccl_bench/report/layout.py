"""Tables as padded text: columns, what fits in a width, and how a number is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

GAP = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Lines of ``header`` above ``cells``, all padded to ``width``, flush right unless ``left``.

    ``name`` is what a message calls it.
    """

    name: str
    header: tuple[str, ...]
    cells: tuple[str, ...]
    width: int
    left: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """``notes`` stand under the title, ``gap`` spaces between columns.

    The first ``keep`` columns are never left out for lack of room.
    """

    title: str
    notes: tuple[str, ...]
    columns: tuple[Column, ...]
    keep: int
    gap: int = GAP

    def fit(self, width: int) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
        """The columns that fit in ``width``, in order, and those left out for it."""
        shown = len(self.columns)
        while shown > self.keep and sum(column.width + self.gap for column in self.columns[:shown]) - self.gap > width:
            shown -= 1
        return self.columns[:shown], self.columns[shown:]


def column(name: str, header: Sequence[str], cells: Sequence[str], *, left: bool = False) -> Column:
    """A column as wide as its widest text, flush right unless ``left``."""
    width = max(map(len, (*header, *cells)))

    def pad(text: str) -> str:
        return text.ljust(width) if left else text.rjust(width)

    return Column(name=name, header=tuple(map(pad, header)), cells=tuple(map(pad, cells)), width=width, left=left)


def pairs(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Two numbers per row in one text, each flush right under those above; the second may be empty throughout."""
    left, right = (max((len(row[side]) for row in rows), default=0) for side in (0, 1))
    return [f"{row[0]:>{left}} {row[1]:>{right}}" if right else row[0] for row in rows]


def fold(name: str, width: int) -> tuple[str, ...]:
    """``name`` on one line where it fits in ``width``, else on the two that are narrowest, split after a hyphen."""
    parts = name.split("-")
    splits = [("-".join(parts[:at]) + "-", "-".join(parts[at:])) for at in range(1, len(parts))]
    if len(name) <= width or not splits:
        return (name,)
    return min(splits, key=lambda lines: max(map(len, lines)))


def significant(value: float) -> str:
    """Three significant digits, and every digit before the point: 0.0123, 7.65, 12.6, 607, 4612."""
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(float(f"{abs(value):.2e}")))
    return f"{value:.{max(0, 2 - magnitude)}f}"


def ratio(value: float) -> str:
    """Two digits behind the point, fewer where the first digits say enough: 0.38x, 1.02x, 12.3x, 140x."""
    return f"{value:.2f}x" if value < 9.995 else f"{significant(value)}x"


def bandwidth(value: float) -> str:
    """GB/s with two digits behind the point; what they cannot show is not 0."""
    return "<0.01" if 0 < value < 0.005 else f"{value:.2f}"


def counted(number: int, noun: str) -> str:
    """``1 rank``, ``2 ranks``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
