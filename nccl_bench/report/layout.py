"""The parts of a report: tables as padded text, and remarks."""

from collections.abc import Sequence
from dataclasses import dataclass

from nccl_bench.analysis.wording import significant
from nccl_bench.report.escaping import visible_lines

GAP = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table. Its texts are padded only when the table is printed, because many tables are only tried."""

    name: str  # the name in messages
    header: tuple[str, ...]  # the lines of the header
    cells: tuple[str, ...]  # the cells below the header
    width: int  # the width of the widest line or cell
    left: bool  # True if texts are printed flush left, False if flush right

    def header_at(self, level: int) -> str:
        """Return a line of the header, or spaces if there is no such line; ``level`` -1 is the lowest line."""
        return self.padded([self.header[level] if -level <= len(self.header) else ""])[0]

    def padded(self, texts: Sequence[str]) -> list[str]:
        """Return ``texts`` padded to the width of the column."""
        pad = str.ljust if self.left else str.rjust
        return [pad(text, self.width) for text in texts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with its title."""

    title: str  # the title above the table
    notes: tuple[str, ...]  # sentences under the title
    columns: tuple[Column, ...]  # the columns from left to right
    keep: int  # the number of columns on the left that are shown even if they do not fit
    gap: int = GAP  # the number of spaces between columns

    @property
    def width(self) -> int:
        """The number of characters in a line."""
        return sum(column.width + self.gap for column in self.columns) - self.gap

    def fit(self, width: int) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
        """Return the columns that fit in ``width``, and the columns that do not."""
        shown = len(self.columns)
        while shown > self.keep and sum(column.width + self.gap for column in self.columns[:shown]) - self.gap > width:
            shown -= 1
        return self.columns[:shown], self.columns[shown:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarks:
    """Sentences below the tables."""

    title: str  # the title of the list; empty if the sentences are paragraphs
    items: Sequence[str]  # the sentences
    style: str = ""  # the style in a terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A text behind a mark, with a command to copy below or behind it."""

    mark: str = ""  # the beginning of the first line; the other lines are indented by its width
    text: str  # the text
    command: tuple[str, ...] = ()  # the words of a command, quoted for a shell; empty if there is none
    mark_style: str = ""  # the style of the mark in a terminal
    style: str = ""  # the style of the text in a terminal


def column(name: str, header: Sequence[str], cells: Sequence[str], *, left: bool = False) -> Column:
    """Return a column as wide as its widest text, flush right unless ``left``."""
    texts = visible_lines([*header, *cells])
    lines, below = tuple(texts[: len(header)]), tuple(texts[len(header) :])
    return Column(name=name, header=lines, cells=below, width=max(map(len, texts)), left=left)


def pairs(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return the two numbers of each row as one aligned text; if no row has a second number, return only the first."""
    left, right = (max((len(row[side]) for row in rows), default=0) for side in (0, 1))
    return [f"{row[0]:>{left}} {row[1]:>{right}}" if right else row[0] for row in rows]


def fold(name: str, width: int) -> tuple[str, ...]:
    """Return ``name`` as one line if it fits in ``width`` or has no hyphen, else as two lines."""
    parts = name.split("-")
    splits = [("-".join(parts[:at]) + "-", "-".join(parts[at:])) for at in range(1, len(parts))]
    if len(name) <= width or not splits:
        return (name,)
    return min(splits, key=lambda lines: max(map(len, lines)))


def microseconds(time_us: float | None) -> str:
    """Return a time with three significant digits; an empty text without a time."""
    return "" if time_us is None else significant(time_us)


def bandwidth(value: float) -> str:
    """Return GB/s with two decimals; a value that would round to 0.00 is shown as ``<0.01``."""
    return "<0.01" if 0 < value < 0.005 else f"{value:.2f}"
