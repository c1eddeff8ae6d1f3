"""Live progress on standard error, where that is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from nccl_bench.collectives import Case
from nccl_bench.plan import Plan
from nccl_bench.records.handoff import Position, furthest_behind
from nccl_bench.units import format_size


class Display:
    """A bar over the plan's cases with what is being measured; nothing where standard error is no terminal."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._progress = Progress(
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=12),
            TimeElapsedColumn(),
            # The one column that may be cut: it takes the room that the others leave.
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            expand=True,
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("starting", total=len(plan.cases))

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, positions: list[Position]) -> None:
        """Where the slowest rank is."""
        last = furthest_behind(positions)
        if last is None:
            return
        cases = self._plan.cases
        where = _label(cases[last.case_index].case) if 0 <= last.case_index < len(cases) else "set-up"
        if last.case_index >= len(cases):
            where = "closing"
        text = " ".join(filter(None, (where, last.arm, last.phase)))
        self._progress.update(self._task, completed=max(0, last.case_index), description=text)


def _label(case: Case) -> str:
    """The case by what distinguishes it most, first: the end may be cut off."""
    size = format_size(case.size_bytes)
    return " ".join(filter(None, (case.collective, size, case.dtype, case.redop, case.placement)))
