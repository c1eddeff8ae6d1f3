"""The CPU's streams: queued functions, events and waits.

The operators of a queued function are known when it runs, in the thread of its stream. Its place in the order is that
of the call that queued it.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from nccl_bench.audit.order.actions import (
    Action,
    EventDestroyed,
    EventRecorded,
    HostWaited,
    MemoryAllocated,
    MemoryFreed,
    SignalReceived,
    StreamOfMemoryRecorded,
    StreamWaited,
)
from nccl_bench.audit.order.places import Stream
from nccl_bench.audit.sources.base import Source
from nccl_bench.audit.sources.feed import Feed, Place
from nccl_bench.audit.sources.memory import Memory
from nccl_bench.audit.sources.model import CPU_DEVICE, CpuModel, DeviceModel
from nccl_bench.audit.sources.operators import Operators
from nccl_bench.streams import cpu
from nccl_bench.streams.observer import StreamObserver, Ticket

_OF_THE_STREAM = (MemoryAllocated, MemoryFreed, StreamOfMemoryRecorded)


class _Ticket(Ticket):
    """A queued function and its place in the feed."""

    def __init__(self, source: CpuStreamsSource, stream: Stream, place: Place) -> None:
        self._source = source
        self._stream = stream
        self._place = place

    def run(self, fn: Callable[..., object], args: tuple[object, ...]) -> None:
        with self._source.feed.filling(self._place), self._source.operators.watching():
            fn(*args)

    def end(self) -> None:
        self._place.actions[:] = list(self._with_own_waits())
        self._source.feed.complete(self._place)

    def _with_own_waits(self) -> Iterator[Action]:
        """Yield the actions of the function.

        What it asks of other streams, and its own waits, are actions of the stream's thread, which follow what its
        stream has done.
        """
        thread = threading.get_ident()
        for action in self._place.actions:
            is_own = isinstance(action, _OF_THE_STREAM) or getattr(action, "stream", None) == self._stream
            if is_own or not hasattr(action, "thread"):
                yield action
                continue
            passed = self._source.feed.new_number()
            yield EventRecorded(thread=self._place.thread, event=passed, stream=self._stream)
            yield HostWaited(thread=thread, event=passed)
            yield replace(action, thread=thread)  # type: ignore[arg-type]
            if isinstance(action, HostWaited | SignalReceived):
                # The stream goes on when its thread has waited.
                yield EventRecorded(thread=thread, event=passed, stream=self._stream)
            yield EventDestroyed(event=passed)


class CpuStreamsSource(Source, StreamObserver):
    """Watches ``streams.cpu``."""

    name: ClassVar[str] = "CPU streams"
    sees: ClassVar[str] = "queued functions, events, waits, synchronisations and queries of nccl_bench.streams.cpu"
    blind_to: ClassVar[tuple[str, ...]] = (
        "Writes of a queued function that go through numpy, a raw pointer or a C extension.",
        "Tensors that a queued function keeps alive through an object: their memory can seem free too early.",
    )

    def __init__(self, feed: Feed, model: DeviceModel, operators: Operators, memory: Memory) -> None:
        self.feed = feed
        self.operators = operators
        self._model = model
        self._memory = memory
        self._previous: StreamObserver | None = None

    def refusal(self) -> str | None:
        return None if isinstance(self._model, CpuModel) else "the GPUs' streams are watched"

    def start(self) -> None:
        self._previous, cpu.observer = cpu.observer, self

    def stop(self) -> None:
        cpu.observer = self._previous

    def queued(self, stream: Any, fn: Callable[..., object], args: tuple[object, ...]) -> Ticket:
        queue = self._model.stream(stream.handle)
        if not self.feed.is_hiding:
            # The queue keeps the arguments alive, so their memory is not handed out before the stream has used it.
            for tensor in tensors_kept_by(fn, args):
                if address := self._memory.note(tensor):
                    self.feed.put(StreamOfMemoryRecorded(address=address, stream=queue))
        return _Ticket(self, queue, self.feed.keep_place(self.feed.stack()))

    def recorded(self, event: Any, stream: Any) -> None:
        self.feed.put(
            EventRecorded(thread=self.feed.thread(), event=id(event), stream=self._model.stream(stream.handle))
        )

    def waited(self, event: Any, stream: Any) -> None:
        thread = self.feed.thread()
        self.feed.put(StreamWaited(thread=thread, stream=self._model.stream(stream.handle), event=id(event)))

    def host_waited(self, event: Any = None, stream: Any = None) -> None:
        thread = self.feed.thread()
        if event is not None:
            self.feed.put(HostWaited(thread=thread, event=id(event)))
        elif stream is not None:
            self.feed.put(HostWaited(thread=thread, stream=self._model.stream(stream.handle)))
        else:
            self.feed.put(HostWaited(thread=thread, device=CPU_DEVICE))


def tensors_kept_by(fn: Any, args: tuple[object, ...], depth: int = 3) -> Iterator[Tensor]:
    """Yield the tensors that a call ``fn(*args)`` keeps alive: arguments, bound objects, partials and closures."""
    if depth == 0:
        return
    values = itertools.chain(args, _parts(fn))
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_kept_by(None, tuple(value), depth - 1)
        elif isinstance(value, dict):
            yield from tensors_kept_by(None, tuple(value.values()), depth - 1)
        elif isinstance(value, functools.partial) or callable(value):
            yield from tensors_kept_by(value, (), depth - 1)


def _parts(fn: Any) -> Iterator[object]:
    if isinstance(fn, functools.partial):
        yield from (fn.func, *fn.args, *fn.keywords.values())
        return
    if isinstance(owner := getattr(fn, "__self__", None), Tensor):
        yield owner
    yield from getattr(fn, "__defaults__", None) or ()
    for cell in getattr(fn, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # the variable of the closure has no value yet
            continue
