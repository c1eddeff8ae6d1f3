"""The destination of a report: standard output, or the file of ``--to``, whose ending chooses the format."""

import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from nccl_bench.cli.messages import print_message
from nccl_bench.config.options import listed
from nccl_bench.errors import UsageError
from nccl_bench.report import Format

# The ending of a file's name -> the format of the file.
ENDINGS: Mapping[str, Format] = {
    ".html": Format.HTML,
    ".svg": Format.SVG,
    ".md": Format.MARKDOWN,
    ".csv": Format.CSV,
    ".json": Format.JSON,
    ".txt": Format.TERMINAL,
}


def chosen_format(format: Format | None, file: Path | None) -> Format:
    """Return ``format``, which is ``--format``; if it is absent, the format that the ending of ``file`` chooses.

    Raises ``UsageError`` if the ending is unknown, or if a web page would fill the screen.
    """
    if file is None:
        if format is Format.HTML and sys.stdout.isatty():
            raise UsageError(
                "--format html makes a web page, and standard output is a terminal: give a file instead, such as "
                "--to page.html"
            )
        return format or Format.TERMINAL
    if format is None and file.suffix not in ENDINGS:
        raise UsageError(
            f"--to is {file}, whose ending chooses no format: give --format too, or a name that ends in "
            f"{listed(ENDINGS)}"
        )
    return format or ENDINGS[file.suffix]


def stream_of(file: Path | None) -> TextIO:
    """Return the stream that a report for a terminal fits: standard output, or for a file a stream without colours."""
    return sys.stdout if file is None else io.StringIO()


def write_report(text: str, file: Path | None) -> None:
    """Print ``text``, or write it to ``file``. Raises ``UsageError`` if the file cannot be written."""
    if file is None:
        print(text, end="", flush=True)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--to is {file}, which cannot be written: {error.strerror}") from error
    print_message(f"wrote {file}")
