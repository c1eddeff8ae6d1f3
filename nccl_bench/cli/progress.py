"""The progress of a command on standard error: a bar in a terminal, else a line every ten seconds."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Self

from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from nccl_bench.cli.messages import print_message
from nccl_bench.cli.tracking import Tracker
from nccl_bench.ranks.progress import Position
from nccl_bench.report.escaping import visible_line

LINE_EVERY_S = 10.0
_ROOM_FOR_CTRL_C = 3


class Bar(Progress):
    """A bar over the whole work, with the time left, the last ratio and the work at hand."""

    def __init__(self, tracker: Tracker) -> None:
        self._stderr = Console(stderr=True)  # rich calls get_renderable before it has a console
        # This column gets the width that the other columns leave, so a narrow terminal cuts off only this column.
        rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        super().__init__(
            TextColumn("{task.fields[count]}", markup=False),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[times]}", markup=False),
            TextColumn("{task.description}", markup=False, table_column=rest),
            expand=True,
            console=self._stderr,
            transient=True,
        )
        self._tracker = tracker
        self._item = self.add_task("", total=1.0, count="", times="")
        self._update()

    def get_renderable(self) -> RenderableType:
        # A terminal shows a Ctrl-C as `^C` at the end of this line. Without room, `^C` begins a line that stays.
        return Constrain(super().get_renderable(), self._stderr.width - _ROOM_FOR_CTRL_C)

    def show(self, positions: Sequence[Position], launch: int = 1) -> None:
        """Show the position of the slowest rank in the launch with this number."""
        self._tracker.see(positions, launch)
        self._update()

    def _update(self) -> None:
        status = self._tracker.status()
        self.update(
            self._item,
            completed=status.share_done,
            count=f"{status.done}/{status.total}",
            times=f"{_clock_text(status.elapsed_s)}, {_clock_text(status.left_s)} left",
            description=visible_line(f"last {status.last} | {status.where}" if status.last else status.where),
        )


class Lines:
    """A line every ten seconds, for a log; no line if ``is_silent``."""

    def __init__(
        self, tracker: Tracker, noun: str, *, is_silent: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tracker, self._noun, self._is_silent, self._clock = tracker, noun, is_silent, clock
        self._printed_at = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def show(self, positions: Sequence[Position], launch: int = 1) -> None:
        """Print a line if ten seconds have passed since the last one."""
        self._tracker.see(positions, launch)
        if self._is_silent or self._clock() < self._printed_at + LINE_EVERY_S:
            return
        self._printed_at = self._clock()
        status = self._tracker.status()
        last = f"; {status.pair}: {status.last}" if status.last else ""
        times = f"{status.elapsed_s:.0f} s, about {status.left_s:.0f} s left"
        print_message(f"{status.done} of {status.total} {self._noun}s, {times}: {status.where}{last}")


def display_of(tracker: Tracker, noun: str, *, is_silent: bool = False) -> Bar | Lines:
    """Return a bar if standard error is a terminal, else lines. ``noun`` names an item; no line if ``is_silent``."""
    return Bar(tracker) if sys.stderr.isatty() else Lines(tracker, noun, is_silent=is_silent)


def _clock_text(seconds: float) -> str:
    """Return a duration as minutes and seconds, with hours if there are any: 0:07, 1:12, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
