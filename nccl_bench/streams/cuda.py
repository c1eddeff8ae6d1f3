"""torch.cuda's streams as an implementation of ``Streams``. ``CudaStreams(index)`` needs a GPU; importing does not."""

import ctypes
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch.autograd.profiler import profile

from nccl_bench.errors import SetupError
from nccl_bench.records.nvml import open_nvml
from nccl_bench.streams.base import Graph, Streams
from nccl_bench.streams.memory_use import MemoryUse, resident_bytes, stranded_bytes
from nccl_bench.streams.sensors import GpuSensors

# Roughly 10 ms at 2 GHz. A launch and the resolution of an event (0.5 us) are much shorter.
_CALIBRATION_CYCLES = 20_000_000
_INT64_MAX = 2**63 - 1
_DRIVER = "libcuda.so.1"


class CudaStreams(Streams):
    """The streams of one CUDA device. Construction makes this device the current device of the calling thread.

    Raises ``SetupError`` if torch sees no device with that index.
    """

    follows = True

    def __init__(self, index: int) -> None:
        count = torch.cuda.device_count()
        if not 0 <= index < count:
            raise SetupError(
                f"this rank needs CUDA device {index}, and torch {torch.__version__} sees {count}: check nvidia-smi, "
                "CUDA_VISIBLE_DEVICES and that torch is a CUDA build, or start fewer ranks per node"
            )
        torch.cuda.set_device(index)
        self.device = torch.device("cuda", index)
        self.index = index
        # torch.cuda.current_stream() makes an object in each call, which takes microseconds (pytorch #78066). A CPU
        # build of torch does not have the function below, so the import of this module must not look it up.
        self.current_handle = torch._C._cuda_getCurrentRawStream
        self._streams: dict[int, torch.cuda.Stream] = {0: torch.cuda.default_stream(self.device)}
        self._drawn = 0
        self._pool, self._capture_stream = self._draw_pool()
        self._sleep: Callable[[int], None] = torch.cuda._sleep
        self._cycles_per_second = self._calibrate()

    def _draw_pool(self) -> tuple[list[torch.cuda.Stream], torch.cuda.Stream]:
        """Return (1) all streams of torch's pool, in torch's order, and (2) the first stream, drawn a second time.

        torch repeats its pool in a circle: the pool is complete when the first stream comes back. Captures use that
        stream.
        """
        pool = [self.new_stream()]
        while (drawn := self.new_stream()) != pool[0]:
            pool.append(drawn)
        self._drawn = 1
        return pool, drawn

    def _calibrate(self) -> float:
        """Measure how many cycles of ``_sleep`` take one second, which depends on the clock of the device."""
        start, end = self.new_event(timing=True), self.new_event(timing=True)
        self._sleep(_CALIBRATION_CYCLES)  # loads the kernel, and gives the GPU time to raise its clock
        start.record()
        self._sleep(_CALIBRATION_CYCLES)
        end.record()
        end.synchronize()
        seconds: float = start.elapsed_time(end) / 1e3
        return _CALIBRATION_CYCLES / seconds

    def new_stream(self) -> torch.cuda.Stream:
        """Return a stream from torch's pool of 32. After 32 calls torch gives out the same streams again."""
        self._drawn += 1
        return torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def spare_streams(self) -> list[torch.cuda.Stream]:
        """Return the streams of torch's pool that were not given out since this device was opened."""
        following = self._pool.index(self.new_stream())
        return self._pool[following:] if self._drawn < len(self._pool) else []

    def new_event(self, *, timing: bool = False) -> torch.cuda.Event:
        return torch.cuda.Event(enable_timing=timing)  # type: ignore[no-untyped-call]

    def current_stream(self) -> torch.cuda.Stream:
        return torch.cuda.current_stream(self.device)

    def default_stream(self) -> torch.cuda.Stream:
        return self._streams[0]

    def stream(self, stream: torch.cuda.Stream) -> AbstractContextManager[None]:
        return torch.cuda.stream(stream)

    def handle(self, stream: torch.cuda.Stream) -> int:
        return stream.cuda_stream

    def from_handle(self, handle: int) -> torch.cuda.Stream:
        """Return a stream object for a ``cudaStream_t`` of this device. The stream's creator must keep it alive."""
        stream = self._streams.get(handle)
        if stream is None:
            stream = self._streams[handle] = torch.cuda.get_stream_from_external(handle, self.device)
        return stream

    def submit(self, fn: Callable[..., object], *args: object) -> None:
        """Call ``fn(*args)``. The functions that ``fn`` calls queue their work on the current stream."""
        fn(*args)

    def hold(self, seconds: float) -> None:
        self._sleep(min(int(seconds * self._cycles_per_second), _INT64_MAX))

    def capture(self, body: Callable[[], None], stream: torch.cuda.Stream | None = None) -> Graph:
        """Capture the work that ``body`` enqueues on ``stream``. First, ``stream`` waits for the current stream.

        If ``stream`` is ``None``, the capture uses a stream kept for captures: no capture can begin on the default
        stream. If ``body`` raises, the capture ends and the exception propagates.
        """
        graph = torch.cuda.CUDAGraph()
        capturing = self._capture_stream if stream is None else stream
        current = self.current_stream()
        capturing.wait_stream(current)
        with torch.cuda.stream(capturing):
            # In thread-local mode, calls of other threads (such as torch's NCCL watchdog) cannot break the capture.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                body()
            except BaseException as error:
                try:
                    graph.capture_end()
                except RuntimeError as broken:
                    error.add_note(f"After this error, the capture could not be ended: {broken}")
                raise
            graph.capture_end()
        current.wait_stream(capturing)
        return graph

    def captured_nodes(self) -> int | None:
        # torch has no such function, so ask the driver for the graph that the stream captures. The function exists
        # since CUDA 11.3, and its later versions give the same number of nodes.
        try:
            driver = ctypes.CDLL(_DRIVER)
            get_graph, get_nodes = driver.cuStreamGetCaptureInfo_v2, driver.cuGraphGetNodes
        except (OSError, AttributeError):
            return None  # no CUDA driver (as with ROCm), or a driver that is too old
        status, graph, count = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_size_t()
        stream = ctypes.c_void_p(self.current_handle(self.index))
        # A null pointer stands for a value that is not needed: the capture's id, the dependencies of the next node.
        error = get_graph(stream, ctypes.byref(status), None, ctypes.byref(graph), None, None)
        if error or not graph:
            return None
        return None if get_nodes(graph, None, ctypes.byref(count)) else count.value

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.device)

    def memory(self) -> tuple[int, int]:
        """Return the free and the total bytes of memory. Memory that torch reserves without using it counts as free."""
        free, total = torch.cuda.mem_get_info(self.device)
        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return free + cached, total

    def memory_use(self) -> MemoryUse:
        """Return the memory that all processes on the device use, without torch's reserved memory."""
        free, total = torch.cuda.mem_get_info(self.device)
        used = total - free - torch.cuda.memory_reserved(self.device)
        return MemoryUse(device_bytes=used, host_bytes=resident_bytes())

    def stranded_bytes(self) -> int | None:
        # Only torch's own allocator lists its segments.
        if torch.cuda.get_allocator_backend() != "native":
            return None
        segments = torch.cuda.memory_snapshot()  # type: ignore[no-untyped-call]
        of_device = [segment for segment in segments if segment["device"] == self.index]
        return stranded_bytes(of_device, self.current_handle(self.index))

    def release_memory(self) -> None:
        torch.cuda.empty_cache()

    def has_expandable_segments(self) -> bool:
        # Only torch's own allocator lists its segments.
        if torch.cuda.get_allocator_backend() != "native":
            return False
        segments = torch.cuda.memory_snapshot()  # type: ignore[no-untyped-call]
        return any(segment["is_expandable"] for segment in segments)

    def marked(self, name: str) -> AbstractContextManager[None]:
        # torch passes the name to `str.format`, so double the braces.
        return torch.cuda.nvtx.range(name.replace("{", "{{").replace("}", "}}"))

    def profiler(self) -> profile:
        # Graphs can crash if CUPTI is unloaded and then loaded again for the next profile. These variables keep
        # CUPTI loaded. torch.profiler sets them too.
        os.environ |= {"DISABLE_CUPTI_LAZY_REINIT": "1", "TEARDOWN_CUPTI": "0"}
        return profile(use_device="cuda", use_kineto=True, record_shapes=True)

    def sensors(self) -> GpuSensors | None:
        uuid = getattr(torch.cuda.get_device_properties(self.device), "uuid", None)
        return None if uuid is None else GpuSensors.of(open_nvml(), str(uuid))

    def describe(self) -> dict[str, object]:
        """Return properties of the device; ``None`` for a property that this version of torch does not have."""
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
