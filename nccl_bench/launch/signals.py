"""The signals that end a run: SIGINT, SIGTERM and SIGHUP."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from nccl_bench.errors import InterruptedRunError


def raise_interrupted(received: Sequence[signal.Signals]) -> None:
    """Raise ``InterruptedRunError`` if a signal was received."""
    if received:
        raise InterruptedRunError(f"interrupted by {received[0].name}")


@contextmanager
def collect_signals() -> Iterator[list[signal.Signals]]:
    """Yield a list that gets each SIGINT, SIGTERM and SIGHUP of this process.

    The handlers raise nothing: an exception could interrupt the clean-up after the signal.
    """
    received: list[signal.Signals] = []
    with handling_signals(lambda number, _frame: received.append(signal.Signals(number))):
        yield received


@contextmanager
def handling_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call ``handler`` for each SIGINT, SIGTERM and SIGHUP of this process within a ``with`` block.

    An ignored signal stays ignored: nohup and background jobs need this. Only the main thread can set handlers.
    """
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
