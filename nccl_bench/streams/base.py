"""The protocol that the streams of ``torch.cuda`` and the streams of the CPU share.

Code in higher layers never asks which kind of device it runs on: ``catalog.devices.DEVICES`` lists the features of each
kind. Stream and event objects come from torch.cuda or from ``streams.cpu``; both have the same methods.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch.autograd.profiler import profile

from nccl_bench.streams.memory_use import MemoryUse, resident_bytes
from nccl_bench.streams.sensors import GpuSensors


class Graph(Protocol):
    """A captured ``torch.cuda.CUDAGraph``."""

    def replay(self) -> None:
        """Enqueue the captured work on the current stream."""

    def reset(self) -> None:
        """Free the graph. ``Transport.destroy`` waits until all graphs of its communicator are freed."""


class Streams(Protocol):
    """The streams of one device of this process."""

    # True if every library queues its work on the current stream. If False, call a library through `submit`.
    follows: bool
    device: torch.device
    index: int  # the number of the device, for `current_handle`
    # `current_handle(index)` returns the raw handle of the current stream of device `index`. The call is cheap.
    current_handle: Callable[[int], int]

    def new_stream(self) -> Any:
        """Return a new stream of this device. The new stream waits for no other stream."""

    def spare_streams(self) -> Sequence[Any]:
        """Return the streams of the device's pool that nothing uses yet; an empty list if the device has no pool."""
        return ()

    def new_event(self, *, timing: bool = False) -> Any:
        """Return a new event."""

    def current_stream(self) -> Any:
        """Return the current stream of the calling thread."""

    def default_stream(self) -> Any:
        """Return the default stream of the device, whose handle is 0."""

    def stream(self, stream: Any) -> AbstractContextManager[Any]:
        """Make ``stream`` the current stream of the calling thread within a ``with`` block."""

    def handle(self, stream: Any) -> int:
        """Return the raw handle of ``stream``, the number that a transport takes."""

    def from_handle(self, handle: int) -> Any:
        """Return the stream object of a raw handle. Later calls with this handle are fast."""

    def submit(self, fn: Callable[..., object], *args: object) -> None:
        """Run ``fn(*args)`` in the order of the current stream.

        On CUDA ``fn`` is called now, because the functions that ``fn`` calls queue their work. On the CPU ``fn`` is
        queued and its arguments are kept alive; if ``fn`` raises, the next synchronisation raises that exception.
        """

    def hold(self, seconds: float) -> None:
        """Keep the current stream busy for roughly ``seconds`` without help from the host: the gate of a batch."""

    def capture(self, body: Callable[[], None], stream: Any = None) -> Graph:
        """Capture the work that ``body`` enqueues on ``stream``. First, ``stream`` waits for the current stream."""

    def captured_nodes(self) -> int | None:
        """Return the number of nodes in the graph that the current stream captures; ``None`` if it is unknown."""
        return None

    def synchronize(self) -> None:
        """Block the host until the device is idle; raise the exception of queued work that failed."""

    def memory(self) -> tuple[int, int]:
        """Return the free and the total bytes of memory for tensors of this process."""

    def memory_use(self) -> MemoryUse:
        """Return the memory that is in use now."""
        return MemoryUse(device_bytes=None, host_bytes=resident_bytes())

    def stranded_bytes(self) -> int | None:
        """Return the free bytes of torch's allocator that the current stream cannot use.

        ``None`` if the device has no such allocator.
        """
        return None

    def release_memory(self) -> None:
        """Return the unused memory of torch's allocator to the driver. The device must be idle."""
        return

    def has_expandable_segments(self) -> bool:
        """Return whether torch's allocator uses expandable segments. torch must have allocated some memory."""
        return False

    def marked(self, name: str) -> AbstractContextManager[Any]:
        """Mark the host's time in a ``with`` block as a range with this ``name``, for tools that show NVTX ranges.

        A device without such tools marks nothing.
        """
        return nullcontext()

    def profiler(self) -> profile:
        """Return a profiler of the host's calls and of the work of this device, to enter with ``with``.

        ``torch.profiler`` would import torch's compiler, which takes a second and makes a directory for its cache.
        """

    def sensors(self) -> GpuSensors | None:
        """Return the sensors of the device; ``None`` if the device or this machine has none."""
        return None

    def describe(self) -> dict[str, object]:
        """Return facts about the device for ``run.json``."""
