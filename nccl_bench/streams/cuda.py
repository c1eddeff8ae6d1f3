"""torch.cuda's streams behind the ``Streams`` protocol. The import needs no GPU, ``CudaStreams(index)`` does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from nccl_bench.errors import SetupError
from nccl_bench.streams.base import Graph

# About 10 ms at 2 GHz: long against a launch and an event's half microsecond, short against a run's set-up.
_CALIBRATION_CYCLES = 20_000_000
_INT64_MAX = 2**63 - 1


class CudaStreams:
    """One CUDA device of this process, which becomes the constructing thread's current device.

    Raises ``SetupError`` when torch sees no device of that index.
    """

    follows: bool = True
    device: torch.device
    index: int
    current_handle: Callable[[int], int]

    def __init__(self, index: int) -> None:
        count = torch.cuda.device_count()
        if not 0 <= index < count:
            raise SetupError(
                f"CUDA device {index} was asked for and torch {torch.__version__} sees {count}: check nvidia-smi, "
                "CUDA_VISIBLE_DEVICES and that torch is a CUDA build, or start fewer ranks per node"
            )
        torch.cuda.set_device(index)
        self.device = torch.device("cuda", index)
        self.index = index
        # torch.cuda.current_stream() builds an object per call, which costs microseconds (pytorch #78066). Looked up
        # here because a CPU build of torch does not have it.
        self.current_handle = torch._C._cuda_getCurrentRawStream
        self._streams: dict[int, torch.cuda.Stream] = {0: torch.cuda.default_stream(self.device)}
        self._drawn = 0
        self._pool, self._capture_stream = self._draw_pool()
        self._sleep: Callable[[int], None] = torch.cuda._sleep
        self._cycles_per_second = self._calibrate()

    def _draw_pool(self) -> tuple[list[torch.cuda.Stream], torch.cuda.Stream]:
        """Every stream of torch's pool in the order in which it gives them away, and the first, now given away."""
        pool = [self.new_stream()]
        while (drawn := self.new_stream()) != pool[0]:
            pool.append(drawn)
        self._drawn = 1
        return pool, drawn

    def _calibrate(self) -> float:
        """Cycles per second that ``_sleep`` spins, as events measure it: the clock it counts depends on the device."""
        start, end = self.new_event(timing=True), self.new_event(timing=True)
        self._sleep(_CALIBRATION_CYCLES)  # loads the kernel and lets the clock rise
        start.record()
        self._sleep(_CALIBRATION_CYCLES)
        end.record()
        end.synchronize()
        seconds: float = start.elapsed_time(end) / 1e3
        return _CALIBRATION_CYCLES / seconds

    def new_stream(self) -> torch.cuda.Stream:
        """A stream from torch's pool of 32; once that has gone round, one that is another's too."""
        self._drawn += 1
        return torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def spare_streams(self) -> list[torch.cuda.Stream]:
        """What torch's pool has not given away since this device was opened, to us or to torch itself."""
        following = self._pool.index(self.new_stream())
        return self._pool[following:] if self._drawn < len(self._pool) else []

    def new_event(self, *, timing: bool = False) -> torch.cuda.Event:
        """A new event."""
        return torch.cuda.Event(enable_timing=timing)  # type: ignore[no-untyped-call]

    def current_stream(self) -> torch.cuda.Stream:
        """The calling thread's current stream on this device."""
        return torch.cuda.current_stream(self.device)

    def default_stream(self) -> torch.cuda.Stream:
        """The device's default stream, whose handle is 0."""
        return self._streams[0]

    def stream(self, stream: torch.cuda.Stream) -> AbstractContextManager[None]:
        """Make ``stream`` current for the calling thread within a ``with`` block."""
        return torch.cuda.stream(stream)

    def handle(self, stream: torch.cuda.Stream) -> int:
        """The ``cudaStream_t`` of ``stream``."""
        return stream.cuda_stream

    def from_handle(self, handle: int) -> torch.cuda.Stream:
        """A stream object for a ``cudaStream_t`` of this device, whoever made it; they must keep it alive."""
        stream = self._streams.get(handle)
        if stream is None:
            stream = self._streams[handle] = torch.cuda.get_stream_from_external(handle, self.device)
        return stream

    def submit(self, fn: Callable[..., object], *args: object) -> None:
        """Call ``fn(*args)``: what it calls queues on the current stream by itself."""
        fn(*args)

    def hold(self, seconds: float) -> None:
        """Keep the current stream busy for about ``seconds`` with a kernel that counts cycles."""
        self._sleep(min(int(seconds * self._cycles_per_second), _INT64_MAX))

    def capture(self, body: Callable[[], None], stream: torch.cuda.Stream | None = None) -> Graph:
        """Capture the work that ``body`` enqueues, on ``stream`` or one of its own, which first waits for the current.

        A capture cannot begin on the default stream, hence the stream of its own. An exception of ``body`` ends the
        capture and propagates.
        """
        graph = torch.cuda.CUDAGraph()
        capturing = self._capture_stream if stream is None else stream
        current = self.current_stream()
        capturing.wait_stream(current)
        with torch.cuda.stream(capturing):
            # Thread-local, so that what another thread does meanwhile (NCCL's watchdog polls events) cannot spoil it.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                body()
            except BaseException as error:
                try:
                    graph.capture_end()
                except RuntimeError as broken:
                    error.add_note(f"The capture could not be ended either: {broken}")
                raise
            graph.capture_end()
        current.wait_stream(capturing)
        return graph

    def synchronize(self) -> None:
        """Block the host until the device is idle."""
        torch.cuda.synchronize(self.device)

    def memory(self) -> tuple[int, int]:
        """Free and total bytes; what torch's allocator has reserved and not handed out counts as free."""
        free, total = torch.cuda.mem_get_info(self.device)
        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return free + cached, total

    def describe(self) -> dict[str, object]:
        """The device's properties; ``None`` for those this version of torch does not tell."""
        properties = torch.cuda.get_device_properties(self.device)
        uuid = getattr(properties, "uuid", None)
        return {
            "type": "cuda",
            "name": properties.name,
            "total_memory_bytes": properties.total_memory,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "l2_cache_bytes": getattr(properties, "L2_cache_size", None),
            "uuid": None if uuid is None else str(uuid),
        }
