"""The base of all reports for a terminal: wrapped lines and tables in plain ASCII, in colour if possible."""

import io
import os
import re
import shutil
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Self, TextIO

from rich.console import Console
from rich.text import Text

from nccl_bench.report import Content
from nccl_bench.report.escaping import visible, visible_line
from nccl_bench.report.layout import Column, Entry, Remarks, Table

# A space between a number and its unit. `_JOINT` stands for this space while a text is divided into lines.
_UNITS = re.compile(r"(?<=\d) (?=%|us\b|[KMG]iB\b|B\b)")
_JOINT = "\x1f"


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
        if not self.styled:
            # rich would give the same characters, and takes ten times as long.
            return "".join(f"{line.plain}\n" for line in self._safe_lines(content))
        buffer = io.StringIO()
        console = Console(file=buffer, width=self.width, force_terminal=True, color_system="auto", legacy_windows=False)
        for line in self._safe_lines(content):
            console.print(line, soft_wrap=True)
        return buffer.getvalue()

    def _safe_lines(self, content: Content) -> Iterator[Text]:
        """Yield the lines of the report. A line that a terminal could obey is escaped and loses its colours."""
        for line in self._lines(content):
            safe = visible_line(line.plain)
            yield line if safe == line.plain else Text(safe, line.style)

    @abstractmethod
    def _lines(self, content: Content) -> Iterator[Text]:
        """Yield the lines of the report."""

    def _wrapped(self, text: str, style: str = "", bullet: str = "") -> Iterator[Text]:
        """Yield ``text`` in lines that fit; characters other than plain ASCII become escapes."""
        indent = " " * len(bullet)
        for number, line in enumerate(text.splitlines()):
            safe = visible(line.expandtabs(4)).encode("ascii", "backslashreplace").decode()
            first = indent if number else bullet
            for part in textwrap.wrap(
                # A number and its unit stay on one line.
                _UNITS.sub(_JOINT, safe),
                self.width,
                initial_indent=first,
                subsequent_indent=indent,
                break_on_hyphens=False,
            ):
                yield Text(part.replace(_JOINT, " "), style)

    def _entry(self, entry: Entry) -> Iterator[Text]:
        """Yield the mark and the text, then the command in lines that a shell joins again."""
        # In a narrow terminal, the text would have no room behind a wide mark.
        indent = " " * min(len(entry.mark), self.width // 2)
        width = self.width - len(indent)
        texts = [line.plain for line in replace(self, width=width)._wrapped(entry.text)]
        command = list(_command_lines(entry.command, width))
        if len(command) == 1 and len(" ".join([*texts, *command])) <= width:
            texts, command = [" ".join([*texts, *command])], []
        lines = [*((text, entry.style) for text in texts), *((text, "") for text in command)]
        if len(entry.mark) > len(indent):
            yield Text(entry.mark.rstrip(), entry.mark_style)
        for number, line in enumerate(lines):
            first = not number and len(entry.mark) == len(indent)
            yield Text.assemble((entry.mark, entry.mark_style) if first else indent, line)

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
        for cells in zip(*(column.padded(column.cells) for column in columns), strict=True):
            text = Text(line(cells))
            for pattern, of_pattern in self.highlights.items() if self.styled else ():
                text.highlight_regex(pattern, of_pattern)
            yield text


def _command_lines(words: Sequence[str], width: int) -> Iterator[str]:
    """Yield a command in lines of at most ``width`` characters; a backslash at the end joins a line with the next.

    A word that is longer than a line is not divided.
    """
    line = ""
    for index, word in enumerate(words):
        last = index == len(words) - 1
        if line and len(line) + 1 + len(word) + (0 if last else 2) > width:
            yield f"{line} \\"
            line = word
        else:
            line = f"{line} {word}".strip()
    if line:
        yield line
