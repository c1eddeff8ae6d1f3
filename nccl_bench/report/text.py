"""Lines of a report: wrapped, in plain ASCII, with colour if the terminal has it."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.text import Text


def wrapped(text: str, width: int, bullet: str = "") -> Iterator[str]:
    """Yield lines of at most ``width`` characters; other characters than plain ASCII are spelled out as escapes."""
    for number, line in enumerate(text.splitlines()):
        safe = line.expandtabs(4).encode("unicode_escape").decode("ascii").replace("\\\\", "\\")
        first = bullet if number == 0 else " " * len(bullet)
        rest = " " * len(bullet)
        yield from textwrap.wrap(safe, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def rendered(lines: Iterable[Text], width: int, styled: bool) -> str:
    """Return ``lines`` as one text; ``styled`` adds colour and bold, and changes nothing else."""
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
