"""The protocol of an observer of the CPU's streams. ``cpu.observer`` is the observer of the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Ticket(Protocol):
    """A queued function, from the call that queued it to its end."""

    def run(self, fn: Callable[..., object], args: tuple[object, ...]) -> None:
        """Call ``fn(*args)``, in the thread of the stream."""

    def end(self) -> None:
        """Note that the function has ended, failed, or was skipped after a failure."""


class StreamObserver(Protocol):
    """Is notified of each request to a stream. The thread that makes the request calls these methods at once.

    ``stream`` and ``event`` are objects of ``streams.cpu``.
    """

    def queued(self, stream: Any, fn: Callable[..., object], args: tuple[object, ...]) -> Ticket:
        """Note that a function was queued, and return its ticket."""

    def recorded(self, event: Any, stream: Any) -> None:
        """Note that an event was recorded on a stream."""

    def waited(self, event: Any, stream: Any) -> None:
        """Note that a stream waits for an event."""

    def host_waited(self, event: Any = None, stream: Any = None) -> None:
        """Note that the host waited for an event, a stream or, without both, for all streams.

        A query that returned True counts as such a wait.
        """
