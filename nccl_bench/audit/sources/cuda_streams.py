"""CUDA's streams, events and memory, from the callbacks of ``torch.cuda._gpu_trace``; queries and graphs from Python.

torch also reports events and synchronisations of its C++ code, so those of ProcessGroupNCCL are seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

import torch

from nccl_bench.audit.order.actions import (
    CaptureBegun,
    CaptureEnded,
    EventDestroyed,
    EventRecorded,
    GraphDestroyed,
    GraphReplayed,
    HostWaited,
    StreamWaited,
)
from nccl_bench.audit.sources.base import Replacements, Source
from nccl_bench.audit.sources.feed import Feed
from nccl_bench.audit.sources.memory import Memory
from nccl_bench.audit.sources.model import CudaModel, DeviceModel


def _gpu_trace() -> ModuleType | None:
    try:
        import torch.cuda._gpu_trace as gpu_trace
    except ImportError:
        return None
    return gpu_trace


class CudaStreamsSource(Source):
    """Watches torch's streams, events, allocator and graphs."""

    name: ClassVar[str] = "CUDA streams"
    sees: ClassVar[str] = "events, waits, synchronisations, queries, graphs and memory of torch, also in its C++ code"
    blind_to: ClassVar[tuple[str, ...]] = (
        "Events and synchronisations by other libraries: cuda-python, cupy, C++ extensions that call the driver.",
        "Queries by C++ code, and CUDA graphs that are not torch.cuda.CUDAGraph.",
        "Memory that is freed before an operator or a collective has used it.",
    )

    def __init__(self, feed: Feed, model: DeviceModel, memory: Memory) -> None:
        self._feed = feed
        self._model = model
        self._memory = memory
        self._replacements = Replacements()
        self._registered: list[tuple[Any, Callable[..., None]]] = []
        self._graphs: dict[int, Any] = {}

    def refusal(self) -> str | None:
        if not isinstance(self._model, CudaModel):
            return "torch sees no GPU"
        if _gpu_trace() is None or not hasattr(torch._C, "_activate_gpu_trace"):
            return f"torch {torch.__version__} has no torch.cuda._gpu_trace, which reports events and memory"
        return None

    def start(self) -> None:
        gpu_trace = _gpu_trace()
        assert gpu_trace is not None
        torch._C._activate_gpu_trace()
        callbacks: dict[str, Callable[..., None]] = {
            "EventDeletion": self._event_deleted,
            "EventRecord": self._recorded,
            "EventWait": self._waited,
            "MemoryDeallocation": self._memory.freed,
            "DeviceSynchronization": self._device_synchronized,
            "StreamSynchronization": self._stream_synchronized,
            "EventSynchronization": self._event_synchronized,
        }
        for name, callback in callbacks.items():
            registry = getattr(gpu_trace, f"{name}Callbacks")
            registry.add_callback(callback)
            self._registered.append((registry, callback))
        replace = self._replacements.replace
        replace(torch.cuda.Event, "query", self._watched_event_query)
        replace(torch.cuda.Stream, "query", self._watched_stream_query)
        replace(torch.cuda.CUDAGraph, "capture_begin", self._watched_capture_begin)
        replace(torch.cuda.CUDAGraph, "capture_end", self._watched_capture_end)
        replace(torch.cuda.CUDAGraph, "replay", self._watched_replay)

    def stop(self) -> None:
        self._replacements.restore()
        # torch has no call that removes a callback, but the list is public. The trace itself stays active.
        for registry, callback in self._registered:
            registry.callback_list.remove(callback)
        self._registered.clear()

    # -- callbacks of torch: events and streams are raw handles ----------------------------------------------------

    def _event_deleted(self, event: int) -> None:
        self._feed.put(EventDestroyed(event=event))

    def _recorded(self, event: int, stream: int) -> None:
        self._feed.put(EventRecorded(thread=self._feed.thread(), event=event, stream=self._model.stream(stream)))

    def _waited(self, event: int, stream: int) -> None:
        self._feed.put(StreamWaited(thread=self._feed.thread(), stream=self._model.stream(stream), event=event))

    def _device_synchronized(self) -> None:
        self._feed.put(HostWaited(thread=self._feed.thread(), device=torch._C._cuda_getDevice()))

    def _stream_synchronized(self, stream: int) -> None:
        self._feed.put(HostWaited(thread=self._feed.thread(), stream=self._model.stream(stream)))

    def _event_synchronized(self, event: int) -> None:
        self._feed.put(HostWaited(thread=self._feed.thread(), event=event))

    # -- calls that torch does not call back for -------------------------------------------------------------------

    def _watched_event_query(self, query: Callable[..., bool]) -> Callable[..., bool]:
        def watched(event: Any) -> bool:
            is_done = query(event)
            if is_done:
                self._feed.put(HostWaited(thread=self._feed.thread(), event=event.cuda_event))
            return is_done

        return watched

    def _watched_stream_query(self, query: Callable[..., bool]) -> Callable[..., bool]:
        def watched(stream: Any) -> bool:
            is_done = query(stream)
            if is_done:
                self._stream_synchronized(stream.cuda_stream)
            return is_done

        return watched

    def _watched_capture_begin(self, begin: Callable[..., None]) -> Callable[..., None]:
        def watched(graph: Any, *args: Any, **kwargs: Any) -> None:
            # The driver answers no question about a stream under capture, so ask for the stream before the capture.
            stream = self._model.current_stream()
            begin(graph, *args, **kwargs)
            self._graphs[id(graph)] = stream
            self._feed.put(CaptureBegun(thread=self._feed.thread(), stream=stream))

        return watched

    def _watched_capture_end(self, end: Callable[..., None]) -> Callable[..., None]:
        def watched(graph: Any) -> None:
            try:
                end(graph)
            finally:
                stream = self._graphs.pop(id(graph), None)
                if stream is not None:
                    number = id(graph)
                    weakref.finalize(graph, self._graph_freed, number).atexit = False
                    self._feed.put(CaptureEnded(thread=self._feed.thread(), stream=stream, graph=number))

        return watched

    def _graph_freed(self, number: int) -> None:
        self._feed.put(GraphDestroyed(graph=number))

    def _watched_replay(self, replay: Callable[..., None]) -> Callable[..., None]:
        def watched(graph: Any) -> None:
            replay(graph)
            self._feed.put(
                GraphReplayed(
                    thread=self._feed.thread(),
                    graph=id(graph),
                    stream=self._model.current_stream(),
                    where=self._feed.stack(),
                )
            )

        return watched
