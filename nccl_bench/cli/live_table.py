"""The table of a verification on standard error, which fills while probes run. It needs a terminal."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live

from nccl_bench.cli.progress import Bar
from nccl_bench.cli.tracking import Tracker
from nccl_bench.ranks.progress import Position
from nccl_bench.report.verification import TerminalVerification
from nccl_bench.verify.judgement import ProbeStatus, Verification


class LiveTable:
    """The table, if the terminal has room for it, and below it the progress bar.

    ``read`` returns the judgement of all findings so far.
    """

    def __init__(self, tracker: Tracker, read: Callable[[], Verification]) -> None:
        self._read = read
        self._verification = read()
        self._bar = Bar(tracker)
        self._live = Live(self, console=Console(stderr=True), transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._live.stop()

    def show(self, positions: Sequence[Position], launch: int = 1) -> None:
        """Show what was found since the last call, and the position of the slowest rank."""
        self._verification = self._read()
        self._bar.show(positions, launch)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = max(options.max_width, TerminalVerification.narrowest)
        table = TerminalVerification(width=width, styled=True).table_lines(_with_passes(self._verification))
        lines: list[RenderableType] = [*table, ""]
        # Lines that have left a small terminal cannot be replaced, so show only the progress bar there.
        if len(lines) < options.size.height:
            yield from lines
        yield self._bar


def _with_passes(verification: Verification) -> Verification:
    """Show passes as passes. The detector's probes run last, so before that nobody knows if it will be caught."""
    if verification.blind:
        return verification
    judgements = (
        replace(each, status=ProbeStatus.PASS) if each.status is ProbeStatus.UNVERIFIED else each
        for each in verification.judgements
    )
    return replace(verification, judgements=tuple(judgements))
