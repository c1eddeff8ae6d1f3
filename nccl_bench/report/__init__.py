"""Reports: one class for each format and content; all follow the protocol ``Report``.

A report turns data into text: it opens no file, reads no option and prints nothing. Heavy imports (pandas, rich) stay
in the modules, so that a command loads only the report that it needs.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol, TypeVar

Content_contra = TypeVar("Content_contra", contravariant=True)


class Format(StrEnum):
    """The formats in which a command prints its result."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"


class Report(Protocol[Content_contra]):
    """A format of one kind of content: an analysis, a verification, or the sections of a listing."""

    def render(self, content: Content_contra, /) -> str:
        """Return the whole report as text that ends in a newline."""
