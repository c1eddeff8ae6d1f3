"""Ordered queues on the CPU with torch.cuda's names: ``Stream``, ``Event``, ``current_stream``, ``stream(...)``.

A stream is a queue served by one thread; the default stream runs work inline, in the caller's thread. So two streams
run at the same time and nothing but an event orders them, and a missing one is as real a race as on a GPU.

When a queued operation raises, the operations queued behind it are skipped, up to the synchronisation that reports
the failure: ``Stream.synchronize``, ``synchronize``, or ``Event.synchronize`` of an event recorded behind it. Each
failure is raised once, by one of these, and outlives its stream. Work queued after the report runs. Events are recorded
and waited for even behind a failure, so it makes no other stream hang or run out of order.
"""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue

import torch

from nccl_bench.errors import InvalidArgumentError

Device = torch.device | str | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One piece of queued work. It refers to its stream, which therefore lives until its queue is drained."""

    stream: Stream
    fn: Callable[..., object]
    args: tuple[object, ...]
    orders: bool  # records or waits for an event, so it happens after a failure too


class _Queue:
    """What a stream shares with its thread and its events.

    Entries are numbered from 1 as they are queued, and done in that order, so ``completed`` is how far the thread got.
    It must not refer to the stream: the thread ends because the stream is dropped.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        # Its put is reentrant, so the stream's finalizer can call it wherever the garbage collector happens to run.
        self.entries: SimpleQueue[_Entry | None] = SimpleQueue()
        self.thread: threading.Thread | None = None
        self.submitted = 0
        self.completed = 0
        self.failure: BaseException | None = None
        self.failed_at = 0
        self.skip_until = 0

    def serve(self) -> None:
        """What the thread does."""
        while (entry := self.entries.get()) is not None:
            try:
                if entry.orders or not self._skips():
                    with stream(entry.stream):
                        entry.fn(*entry.args)
            except BaseException as error:  # noqa: BLE001 - kept, and raised at the next synchronisation
                with self.changed, _lock:
                    self.failure = error
                    self.failed_at = self.completed + 1
                    _failed.append(self)
            # Before it counts as completed: who has synchronised may rely on the arguments being free again. And in
            # this frame, because a failure's traceback keeps it, and with it the entry and the stream.
            del entry
            with self.changed:
                self.completed += 1
                self.changed.notify_all()

    def _skips(self) -> bool:
        with self.changed:
            return self.failure is not None or self.completed < self.skip_until

    def wait(self, number: int) -> None:
        """Block until entry ``number`` is completed; on the queue's own thread, which would wait for itself, do not."""
        if threading.current_thread() is not self.thread:
            with self.changed:
                self.changed.wait_for(lambda: self.completed >= number)

    def report(self, number: int) -> None:
        """Raise the failure of an entry up to ``number``, if there is one that nobody was told of."""
        with self.changed, _lock:
            if self.failure is None or self.failed_at > number:
                return
            error, self.failure = self.failure, None
            self.skip_until = self.submitted
            _failed.remove(self)
        try:
            raise error
        finally:
            del error  # else the exception and this frame keep each other alive


class Stream:
    """An ordered queue of work, served by a thread that starts with the first entry and ends with the stream.

    ``handle`` is 0 for the default stream and otherwise unique in the process, never used again.
    """

    def __init__(self) -> None:
        self._queue = _Queue()
        self.handle = next(_handles)
        with _lock:
            _streams[self.handle] = self

    def submit(self, fn: Callable[..., object], *args: object) -> None:
        """Run ``fn(*args)`` in the order of this stream, with this stream as the current one.

        At once on the default stream, and inside an entry of this very stream; an exception then raises here.
        """
        self._enqueue(fn, *args)

    def _enqueue(self, fn: Callable[..., object], *args: object, orders: bool = False) -> int:
        """Queue or run an entry and return how far the queue must have got for it to be done."""
        queue = self._queue
        if self.handle == 0 or threading.current_thread() is queue.thread:
            with stream(self):
                fn(*args)
            return queue.completed
        with queue.changed:
            if queue.thread is None:
                thread = threading.Thread(target=queue.serve, name=f"cpu-stream-{self.handle}", daemon=True)
                thread.start()
                queue.thread = thread
                # Not at exit: another exit handler may still use the stream, and a daemon thread needs no end there.
                weakref.finalize(self, queue.entries.put, None).atexit = False
            queue.submitted += 1
            queue.entries.put(_Entry(stream=self, fn=fn, args=args, orders=orders))
            return queue.submitted

    def wait_stream(self, stream: Stream) -> None:
        """Make later work here wait for all work now in ``stream``."""
        self.wait_event(stream.record_event())

    def wait_event(self, event: Event) -> None:
        """Make later work here wait for ``event``."""
        event.wait(self)

    def record_event(self, event: Event | None = None) -> Event:
        """Record ``event``, or a new one, at the current end of this stream, and return it."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def synchronize(self) -> None:
        """Block the host until this stream is empty; raises what its work raised."""
        submitted = self._queue.submitted
        self._queue.wait(submitted)
        self._queue.report(submitted)

    def query(self) -> bool:
        """Whether this stream is empty."""
        with self._queue.changed:
            return self._queue.completed == self._queue.submitted


class _Mark:
    """One recording of an event: entry ``number`` of ``queue``, passed at ``time_ns``."""

    def __init__(self, stream: Stream) -> None:
        self.time_ns = 0
        self.queue = stream._queue
        self.number = stream._enqueue(self._pass, orders=True)

    def _pass(self) -> None:
        self.time_ns = time.perf_counter_ns()


class Event:
    """A point in a stream. It may be recorded again: who already waits keeps waiting for the earlier recording."""

    def __init__(self, enable_timing: bool = False) -> None:
        self._timing = enable_timing
        self._mark: _Mark | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Mark the current end of ``stream``, or of the current stream."""
        self._mark = _Mark(stream or current_stream())

    def wait(self, stream: Stream | None = None) -> None:
        """Make ``stream``, or the current one, wait for the latest recording, if there is one.

        The host waits only where the stream runs inline: on the default stream.
        """
        if self._mark is not None:
            (stream or current_stream())._enqueue(self._mark.queue.wait, self._mark.number, orders=True)

    def query(self) -> bool:
        """Whether everything before the latest recording is done; true of an event that was never recorded."""
        return self._mark is None or self._mark.queue.completed >= self._mark.number

    def synchronize(self) -> None:
        """Block the host until everything before the latest recording is done; raises what that raised."""
        mark = self._mark
        if mark is not None:
            mark.queue.wait(mark.number)
            mark.queue.report(mark.number)

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to ``end_event``, as their streams passed them.

        Raises ``InvalidArgumentError`` unless both were made with timing, recorded and passed.
        """
        return (end_event._passed_ns("end") - self._passed_ns("start")) / 1e6

    def _passed_ns(self, which: str) -> int:
        if not self._timing:
            raise InvalidArgumentError(f"the {which} event was made without timing: make it with enable_timing=True")
        if self._mark is None:
            raise InvalidArgumentError(f"the {which} event was never recorded: call record() first")
        if not self.query():
            raise InvalidArgumentError(f"the {which} event is not complete: call synchronize() first")
        return self._mark.time_ns


class _Current(threading.local):
    stream: Stream | None = None


# Guards the three below. A queue's own lock may be held when it is taken, never the other way round.
_lock = threading.Lock()
_handles = itertools.count()
_streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
_failed: list[_Queue] = []  # with a failure nobody was told of, oldest first
_current = _Current()
_default = Stream()  # the first, so its handle is 0


def current_stream(device: Device = None) -> Stream:
    """The calling thread's current stream: the default one unless inside ``stream(...)`` or a queued operation."""
    _check_device(device)
    return _current.stream or _default


def default_stream(device: Device = None) -> Stream:
    """The stream that runs inline."""
    _check_device(device)
    return _default


@contextmanager
def stream(stream: Stream) -> Iterator[Stream]:
    """Make ``stream`` current for the calling thread within a ``with`` block."""
    before, _current.stream = _current.stream, stream
    try:
        yield stream
    finally:
        _current.stream = before


def synchronize(device: Device = None) -> None:
    """Block the host until every stream is empty; raises what their work raised.

    That includes streams since dropped. If several failed the oldest failure is raised, the next one by the next call.
    """
    _check_device(device)
    waited: dict[_Queue, int] = {}
    # Work may submit work, to streams that were looked at before.
    while (submitted := _submitted()) != waited:
        waited = submitted
        for queue, number in waited.items():
            queue.wait(number)
    with _lock:
        failed = list(_failed)
    for queue in failed:
        queue.report(queue.submitted)


def _submitted() -> dict[_Queue, int]:
    with _lock:
        return {stream._queue: stream._queue.submitted for stream in _streams.values()}


def from_handle(handle: int) -> Stream:
    """The live stream with this handle; raises ``InvalidArgumentError`` if there is none."""
    stream = _streams.get(handle)
    if stream is None:
        raise InvalidArgumentError(f"no CPU stream has handle {handle}: keep the Stream object while it is used")
    return stream


def _check_device(device: Device) -> None:
    if device not in (None, 0) and (isinstance(device, int) or torch.device(device).type != "cpu"):
        raise InvalidArgumentError(f"device {device!r} is not served by CPU streams: pass 'cpu', 0 or nothing")
