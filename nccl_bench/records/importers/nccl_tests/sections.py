"""The tables in a log: each program of nccl-tests begins with its version, its name and its settings."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nccl_bench.records.importers.nccl_tests.lines import Line

SETTINGS = re.compile(r"# nThread ")
# The lines with which a table begins. A program prints each of them once, and older programs print only the last one.
_BEGINNINGS = (re.compile(r"# [nr]ccl-tests version "), re.compile(r"# Collective test starting:"), SETTINGS)
# The lines that follow the beginning of a table.
_CONTENT = re.compile(r"# Using devices|#\s+Rank\b|# +size +count| *[0-9]+ +[0-9]+ +[a-z]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the log: one table, or lines that belong to no table."""

    lines: tuple[Line, ...]  # the lines of the part, at least one

    @property
    def is_table(self) -> bool:
        """True if the section has settings, so it is a table."""
        return any(not line.aside and SETTINGS.match(line.text) for line in self.lines)

    @property
    def number(self) -> int:
        """The number of the first line."""
        return self.lines[0].number


def is_part_of_table(line: Line) -> bool:
    """Return True if only a table has such a line."""
    return not line.aside and any(pattern.match(line.text) for pattern in (*_BEGINNINGS, _CONTENT))


def sections_of(lines: Sequence[Line]) -> list[Section]:
    """Return the parts of the log. A part begins with the first line that only the beginning of a table has."""
    starts = [0, *_starts(lines)]
    ends = [*starts[1:], len(lines)]
    return [Section(lines=tuple(lines[start:end])) for start, end in zip(starts, ends, strict=True) if end > start]


def _starts(lines: Sequence[Line]) -> Iterator[int]:
    """Yield the index of each line that begins a table."""
    begun: set[re.Pattern[str]] = set()
    has_content = False
    for index, line in enumerate(lines):
        if line.aside:
            continue
        kind = next((pattern for pattern in _BEGINNINGS if pattern.match(line.text)), None)
        if kind is None:
            has_content = has_content or bool(_CONTENT.match(line.text))
        else:
            if not begun or has_content or kind in begun:
                yield index
                begun, has_content = set(), False
            begun.add(kind)
