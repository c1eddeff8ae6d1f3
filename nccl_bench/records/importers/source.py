"""The text of a file of another tool, decoded."""

import codecs
from dataclasses import dataclass
from pathlib import Path

from nccl_bench.errors import RecordError
from nccl_bench.safety.regular_files import MOST_BYTES_OF_TEXT, read_regular

# The bytes at the beginning of a file that name its encoding. Windows' PowerShell writes UTF-16.
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
REPLACEMENT = "\ufffd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The text of a file."""

    name: str  # the name of the file, without its directory
    text: str  # the decoded text; REPLACEMENT stands for bytes that are not text
    notes: tuple[str, ...]  # sentences about bytes that were replaced


def read_source(path: Path) -> Source:
    """Return the text of ``path``; raise ``RecordError`` if the file cannot be read.

    All importers open their files here.
    """
    try:
        data = read_regular(path, MOST_BYTES_OF_TEXT)
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}") from error
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    encoding = _MARKS.get(mark, "utf-8")
    text = data[len(mark) :].decode(encoding, errors="replace")
    lines = [number for number, line in enumerate(text.split("\n"), 1) if REPLACEMENT in line]
    notes = (f"{_lines_text(lines)} bytes that are not {encoding.upper()}; they were replaced",) if lines else ()
    return Source(name=path.name, text=text, notes=notes)


def _lines_text(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"line {numbers[0]} has"
    return f"{len(numbers)} lines, the first of which is line {numbers[0]}, have"
