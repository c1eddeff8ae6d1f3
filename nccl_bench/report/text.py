"""Lines of a report: wrapped to a width, plain ASCII, with colour where the terminal has it."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.text import Text


def wrapped(text: str, width: int, bullet: str = "") -> Iterator[str]:
    """Lines of at most ``width`` cells; what is not plain ASCII, such as a worker's escapes, is spelled out."""
    for number, line in enumerate(text.splitlines()):
        safe = line.expandtabs(4).encode("unicode_escape").decode("ascii").replace("\\\\", "\\")
        first = bullet if number == 0 else " " * len(bullet)
        rest = " " * len(bullet)
        yield from textwrap.wrap(safe, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def rendered(lines: Iterable[Text], width: int, styled: bool) -> str:
    """``lines`` as one text; ``styled`` adds colour and bold, and nothing else changes with it."""
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=width,
        force_terminal=styled,
        color_system="auto" if styled else None,
        legacy_windows=False,
    )
    for line in lines:
        console.print(line, soft_wrap=True)
    return buffer.getvalue()
