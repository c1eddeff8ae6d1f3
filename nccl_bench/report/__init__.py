"""Reports: one ``Report`` for each format and content.

A report turns data into text. A report opens no file, reads no option and prints nothing. Heavy imports (pandas,
rich) stay in the modules, so that a command loads only the report that it needs.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar


class Format(StrEnum):
    """The formats in which a command prints its result."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"


Content = TypeVar("Content")
# Turns content into text that ends in a newline. Content: an analysis, a verification, or the sections of a listing.
Report = Callable[[Content], str]
