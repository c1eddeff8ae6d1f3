"""How a run is shown: one module per report, all behind ``Report`` and fed with a ``Run``.

Rendering turns data into text: it opens no file, looks at no option and prints nothing. The heavy imports (pandas,
rich) stay in the modules, so that a command pays for no report but its own.
"""

from __future__ import annotations

from typing import Protocol

from nccl_bench.records.run import Run


class Report(Protocol):
    """One way to show a run."""

    def render(self, run: Run) -> str:
        """All of the report as text that ends in a newline."""
