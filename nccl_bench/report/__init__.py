"""Reports: one module per format, all behind ``Report``, which renders an ``Analysis``.

A report turns data into text: it opens no file, reads no option and prints nothing. Heavy imports (pandas, rich) stay
in the modules, so that a command loads only the report that it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nccl_bench.analysis.analysis import Analysis


class Report(Protocol):
    """A format in which an analysis is rendered."""

    def render(self, analysis: Analysis) -> str:
        """Return the whole report as text that ends in a newline."""
