"""The progress bar on standard error. It is shown only if standard error is a terminal."""

import sys
from collections.abc import Callable, Sequence

from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from nccl_bench.catalog.cases import Case
from nccl_bench.config.sizes import format_size
from nccl_bench.plan.cases import PlannedCase
from nccl_bench.ranks.progress import Position, furthest_behind

_ROOM_FOR_CTRL_C = 3


class Display(Progress):
    """A progress bar over ``total`` items; ``label`` returns the name of the item at an index from 0."""

    def __init__(self, total: int, label: Callable[[int], str]) -> None:
        self._stderr = Console(stderr=True)  # rich calls get_renderable before it has a console
        super().__init__(
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=12),
            TimeElapsedColumn(),
            # This column gets the width that the other columns leave, so a narrow terminal cuts off only this column.
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            expand=True,
            console=self._stderr,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._total = total
        self._label = label
        self._item = self.add_task("starting", total=total)

    def get_renderable(self) -> RenderableType:
        # A terminal shows a Ctrl-C as `^C` at the end of this line. Without room, `^C` begins a line that stays.
        return Constrain(super().get_renderable(), self._stderr.width - _ROOM_FOR_CTRL_C)

    def show(self, positions: list[Position]) -> None:
        """Show the position of the slowest rank."""
        self._show(positions, lambda index: max(0, index), "")

    def _show(self, positions: list[Position], completed: Callable[[int], int], prefix: str) -> None:
        """Show ``prefix`` and the position of the slowest rank. ``completed`` counts the items before an index."""
        last = furthest_behind(positions)
        if last is None:
            return
        if last.case_index < 0:
            where = "set-up"
        elif last.case_index < self._total:
            where = self._label(last.case_index)
        else:
            where = "closing"
        text = " ".join(filter(None, (where, last.arm, last.phase)))
        self.update(self._item, completed=completed(last.case_index), description=prefix + text)


class SweepDisplay(Display):
    """A progress bar over the cases of a run, which are measured in each of several launches.

    ``left`` has for each launch the indices of the cases to measure, in this order.
    """

    def __init__(self, cases: Sequence[PlannedCase], left: Sequence[Sequence[int]]) -> None:
        super().__init__(len(cases), lambda index: case_label(cases[index].case))
        self._left = left
        self.update(self._item, total=len(cases) * len(left))

    def show_launch(self, launch: int, positions: list[Position]) -> None:
        """Show the position of the slowest rank in the launch with this number."""
        order = self._left[launch - 1]
        left_later = sum(map(len, self._left[launch:]))

        def completed(index: int) -> int:
            done = order.index(index) if index in order else len(order) if index >= self._total else 0
            return self._total * len(self._left) - left_later - (len(order) - done)

        self._show(positions, completed, f"launch {launch} of {len(self._left)}: " if len(self._left) > 1 else "")


def case_label(case: Case) -> str:
    """Return the name of a case. Its end may be cut off, so the parts that differ most come first."""
    size = format_size(case.size_bytes)
    return " ".join(filter(None, (case.collective, size, case.dtype, case.redop, case.placement_word)))
