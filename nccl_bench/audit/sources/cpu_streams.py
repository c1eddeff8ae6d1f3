"""The CPU's streams: queued functions, events and waits.

A queued function runs later, in the thread of its stream, and its operators are known only then. In ``Order``, the
operators have the place of the call that queued the function.
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
    StreamOfMemoryRecorded,
    StreamWaited,
)
from nccl_bench.audit.order.places import Stream, StreamKind
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

    def _with_own_waits(self) -> Iterator[Action | Place]:
        """Yield the actions of the function, and the waits that order them with its stream.

        The stream starts the function after its earlier work, and goes on after the function has returned.
        """
        thread = self._place.thread
        for action in self._place.actions:
            stream = getattr(action, "stream", None)
            if isinstance(action, _OF_THE_STREAM) or stream == self._stream:
                yield action
            elif isinstance(action, HostWaited) and action.event is not None:
                yield StreamWaited(thread=thread, stream=self._stream, event=action.event)
            elif isinstance(action, HostWaited) and stream is not None:
                yield from self._wait(self._stream, stream)
            elif stream is None and hasattr(action, "thread"):
                yield from self._by_own_thread(action)  # type: ignore[arg-type]
            elif stream is None:
                yield action
            elif stream.kind is StreamKind.INLINE:
                # The default stream does its work within the function.
                yield replace(action, stream=self._stream)  # type: ignore[arg-type]
            else:
                yield from self._wait(stream, self._stream)
                yield action

    def _by_own_thread(self, action: Action) -> Iterator[Action]:
        """Yield an action that the function does as a thread of the host, such as a signal to another thread."""
        thread, event = threading.get_ident(), self._source.feed.new_number()
        yield EventRecorded(thread=self._place.thread, event=event, stream=self._stream)
        yield HostWaited(thread=thread, event=event)
        yield EventDestroyed(event=event)
        yield replace(action, thread=thread)  # type: ignore[arg-type]

    def _wait(self, waiting: Stream, awaited: Stream) -> Iterator[Action]:
        """Yield the actions by which a stream waits for another one."""
        thread, event = self._place.thread, self._source.feed.new_number()
        yield EventRecorded(thread=thread, event=event, stream=awaited)
        yield StreamWaited(thread=thread, stream=waiting, event=event)
        yield EventDestroyed(event=event)


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
        return _Ticket(self, queue, self.feed.keep_place(self.feed.stack(), queue))

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
    for value in itertools.chain(args, _parts(fn)):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_kept_by(None, tuple(value), depth - 1)
        elif isinstance(value, dict):
            yield from tensors_kept_by(None, tuple(value.values()), depth - 1)
        elif callable(value):
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
