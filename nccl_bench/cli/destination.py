"""The destination of a report: standard output, or the file of ``--to``, whose ending chooses the format."""

import io
import sys
from collections.abc import Collection, Mapping
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
    ".perfetto-trace": Format.PERFETTO,
}
# The formats that would fill a screen -> what they make, and a file for it.
_NOT_FOR_A_TERMINAL: Mapping[Format, tuple[str, str]] = {
    Format.HTML: ("a web page", "page.html"),
    Format.PERFETTO: ("a timeline", "run.perfetto-trace"),
}


def endings_of(formats: Collection[Format]) -> Mapping[str, Format]:
    """Return the endings that choose one of ``formats``."""
    return {ending: chosen for ending, chosen in ENDINGS.items() if chosen in formats}


def chosen_format(format: Format | None, file: Path | None, formats: Collection[Format] = tuple(Format)) -> Format:
    """Return ``format``, which is ``--format``; if it is absent, the format that the ending of ``file`` chooses.

    Raises ``UsageError`` if the ending chooses none of ``formats``, or if the result would fill the screen.
    """
    if file is None:
        if format is not None and format in _NOT_FOR_A_TERMINAL and sys.stdout.isatty():
            made, example = _NOT_FOR_A_TERMINAL[format]
            raise UsageError(
                f"--format {format} makes {made}, and standard output is a terminal: give a file instead, such as "
                f"--to {example}"
            )
        return format or Format.TERMINAL
    endings = endings_of(formats)
    if format is None and file.suffix not in endings:
        raise UsageError(
            f"--to is {file}, whose ending chooses no format: give --format too, or a name that ends in "
            f"{listed(endings)}"
        )
    return format or endings[file.suffix]


def stream_of(file: Path | None) -> TextIO:
    """Return the stream that decides on width and colours: standard output, or for a file one without colours."""
    return sys.stdout if file is None else io.StringIO()


def refuse_unwritable(file: Path | None, option: str = "--to") -> None:
    """Raise ``UsageError`` if ``file``, the value of ``option``, clearly cannot be written.

    Call this before the work of a command, which can take minutes.
    """
    if file is None:
        return
    if file.is_dir():
        raise UsageError(f"{option} is {file}, which is a directory: give the name of a file")
    if not file.absolute().parent.is_dir():
        raise UsageError(
            f"{option} is {file}, and the directory {file.parent} does not exist: make it, or name another"
        )


def write_workload_text(text: str, file: Path, option: str) -> None:
    """Write the workload ``text`` to ``file``, the value of ``option``.

    Raises ``UsageError`` if the file cannot be written, or if it exists with another text: people edit workloads.
    """
    content = text.encode()
    if file.is_file() and (file.stat().st_size != len(content) or file.read_bytes() != content):
        raise UsageError(f"{option} is {file}, which exists and differs: give another name, or remove the file")
    write_report(text, file, option)


def write_report(text: str, file: Path | None, option: str = "--to") -> None:
    """Print ``text``, or write it to ``file``, the value of ``option``.

    Raises ``UsageError`` if the file cannot be written.
    """
    if file is None:
        print(text, end="", flush=True)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{option} is {file}, which cannot be written: {error.strerror}") from error
    print_message(f"wrote {file}")
