"""The signals that end a run: SIGINT, SIGTERM and SIGHUP."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
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


def ignoring_signals() -> AbstractContextManager[None]:
    """Ignore the signals that end a run, so that a second Ctrl-C does not interrupt the closing of the record.

    The handler is an empty function and not SIG_IGN, because processes that start meanwhile would inherit SIG_IGN.
    """
    return handling_signals(lambda _number, _frame: None)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise ``InterruptedRunError`` from the body, at any of its lines, at the first SIGINT, SIGTERM or SIGHUP.

    Later signals are ignored. The body must not need a clean-up.
    """
    received: list[signal.Signals] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        if len(received) == 1:
            raise_interrupted(received)

    with handling_signals(interrupt):
        yield


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
