"""The one protocol over ``torch.cuda``'s streams and the CPU's.

Code above this package never asks which device it runs on; ``capabilities.DEVICES`` says which features it has. The
classes behind ``Stream`` and ``Event`` carry torch.cuda's names and meanings, so code
written for one reads the same for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch


class Event(Protocol):
    """``torch.cuda.Event``: a point in a stream."""

    def record(self, stream: Any = None) -> None:
        """Mark the current end of ``stream``, or of the current stream."""

    def wait(self, stream: Any = None) -> None:
        """Make ``stream``, or the current one, wait for this event. The host does not wait."""

    def query(self) -> bool:
        """Whether everything before the mark is done."""

    def synchronize(self) -> None:
        """Block the host until everything before the mark is done."""

    def elapsed_time(self, end_event: Any) -> float:
        """Milliseconds from this event to ``end_event``; both must have been made with timing."""


class Stream(Protocol):
    """``torch.cuda.Stream``: an ordered queue of device work."""

    def wait_stream(self, stream: Any) -> None:
        """Make later work here wait for all work now in ``stream``."""

    def wait_event(self, event: Any) -> None:
        """Make later work here wait for ``event``."""

    def record_event(self, event: Any = None) -> Any:
        """Record ``event``, or a new one, at the current end of this stream, and return it."""

    def synchronize(self) -> None:
        """Block the host until this stream is empty."""

    def query(self) -> bool:
        """Whether this stream is empty."""


class Graph(Protocol):
    """A captured ``torch.cuda.CUDAGraph``."""

    def replay(self) -> None:
        """Enqueue the captured work on the current stream."""

    def reset(self) -> None:
        """Free the graph; NCCL's destroy waits for this."""


class Streams(Protocol):
    """What a device gives to order work: built once per process, for one device.

    ``device`` is the torch device and ``index`` the integer that ``current_handle`` takes. ``follows`` says that what a
    library does follows the current stream by itself; else it has to go through ``submit``.
    """

    follows: bool

    device: torch.device
    index: int
    # The raw handle of the current stream of device `index`, cheaply: `current_handle(index) -> int`.
    current_handle: Callable[[int], int]

    def new_stream(self) -> Any:
        """A new stream of this device, ordered after nothing."""

    def spare_streams(self) -> Sequence[Any]:
        """Streams that nobody was given and that lie in different places; none where a stream has no place."""

    def new_event(self, *, timing: bool = False) -> Any:
        """A new event."""

    def current_stream(self) -> Any:
        """The calling thread's current stream."""

    def default_stream(self) -> Any:
        """The device's default stream."""

    def stream(self, stream: Any) -> AbstractContextManager[Any]:
        """Make ``stream`` current for the calling thread within a ``with`` block."""

    def handle(self, stream: Any) -> int:
        """The raw handle of ``stream``, as a transport takes it."""

    def from_handle(self, handle: int) -> Any:
        """A stream object for a raw handle; from the second call on it costs one look-up."""

    def submit(self, fn: Callable[..., object], *args: object) -> None:
        """Run ``fn(*args)`` in the order of the current stream.

        On CUDA it is called at once, since what it calls queues by itself. On the CPU it is queued, with everything
        it refers to, and an exception it raises surfaces at the next synchronisation.
        """

    def hold(self, seconds: float) -> None:
        """The gate: keep the current stream busy for about ``seconds`` without help from the host."""

    def capture(self, body: Callable[[], None], stream: Any = None) -> Graph:
        """Capture the work that ``body`` enqueues, on ``stream`` or one of its own; it first waits for the current."""

    def synchronize(self) -> None:
        """Block the host until the device is idle; raises what queued work raised."""

    def memory(self) -> tuple[int, int]:
        """Free and total bytes of memory that this process's tensors can take."""

    def describe(self) -> dict[str, object]:
        """What the record should say about the device."""
