"""The base of all reports for a terminal: wrapped lines and tables in plain ASCII, in colour if possible."""

import io
import os
import shutil
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, Self, TextIO

from rich.console import Console
from rich.text import Text

from nccl_bench.report import Content
from nccl_bench.report.layout import Column, Remarks, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReport(ABC, Generic[Content]):
    """Tables and sentences for a terminal."""

    width: int  # the largest number of characters in a line
    styled: bool  # True if text has colour and bold; the characters are the same

    narrowest: ClassVar[int] = 1
    # The style of each pattern in the rows of tables.
    highlights: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def for_stream(cls, stream: TextIO, width: int | None = None) -> Self:
        """Return the report for ``stream``. The default width is ``COLUMNS``, else the terminal's width, else 80."""
        columns = max(cls.narrowest, shutil.get_terminal_size((80, 24)).columns)
        # Open MPI gives each rank a terminal, although its own output may be a file.
        styled = stream.isatty() and "OMPI_COMM_WORLD_RANK" not in os.environ
        return cls(width=width or columns, styled=styled)

    def render(self, content: Content) -> str:
        """Return the whole report."""
        buffer = io.StringIO()
        console = Console(
            file=buffer,
            width=self.width,
            force_terminal=self.styled,
            color_system="auto" if self.styled else None,
            legacy_windows=False,
        )
        for line in self._lines(content):
            console.print(line, soft_wrap=True)
        return buffer.getvalue()

    @abstractmethod
    def _lines(self, content: Content) -> Iterator[Text]:
        """Yield the lines of the report."""

    def _wrapped(self, text: str, style: str = "", bullet: str = "") -> Iterator[Text]:
        """Yield ``text`` in lines that fit; characters other than plain ASCII become escapes."""
        indent = " " * len(bullet)
        for number, line in enumerate(text.splitlines()):
            safe = line.expandtabs(4).encode("unicode_escape").decode("ascii").replace("\\\\", "\\")
            first = indent if number else bullet
            for part in textwrap.wrap(
                safe, self.width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
            ):
                yield Text(part, style)

    def _remarks(self, remarks: Remarks) -> Iterator[Text]:
        yield Text()
        if remarks.title:
            yield from self._wrapped(remarks.title, "bold")
        for item in remarks.items:
            yield from self._wrapped(item, remarks.style, "- " if remarks.title else "")

    def _heading(self, table: Table) -> Iterator[Text]:
        yield from self._wrapped(table.title, "bold")
        for note in table.notes:
            yield from self._wrapped(note, "dim")

    def _table(self, columns: tuple[Column, ...], gap: int) -> Iterator[Text]:
        """Yield an empty line, the header, a rule and the rows."""

        def line(cells: Iterable[str]) -> str:
            return (" " * gap).join(cells).rstrip()

        yield Text()
        height = max(len(column.header) for column in columns)
        for level in range(-height, 0):
            style = "bold" if level < -1 or height == 1 else "dim"
            yield Text(line(column.header_at(level) for column in columns), style)
        yield Text(line("-" * column.width for column in columns), "dim")
        for cells in zip(*(column.cells for column in columns), strict=True):
            text = Text(line(cells))
            for pattern, of_pattern in self.highlights.items():
                text.highlight_regex(pattern, of_pattern)
            yield text
