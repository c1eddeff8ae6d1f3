"""Ordered queues on the CPU with torch.cuda's names: ``Stream``, ``Event``, ``current_stream``, ``stream(...)``.

A stream is a queue that one thread serves. The default stream runs work inline, in the caller's thread. Two streams run
at the same time, and only events order them: a missing event is a real race, as on a GPU.

If a queued operation fails, its stream skips the operations after it. The next synchronisation raises the exception:
``synchronize``, ``Stream.synchronize``, or ``Event.synchronize`` of a later event. Work that is queued after this
synchronisation runs normally. Each exception is raised once, even if the stream no longer exists. Even after a failure,
events are recorded and waited for, so that other streams neither hang nor lose their order.
"""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from nccl_bench.errors import InvalidArgumentError
from nccl_bench.streams.cpu_queues import Entry, Queue, report_failures
from nccl_bench.streams.observer import StreamObserver


class Stream:
    """An ordered queue of work. The thread of a stream starts with the first entry and ends with the stream."""

    def __init__(self) -> None:
        self._queue = Queue()
        self.handle = next(_handles)  # a number that no other stream of this process gets; 0 for the default stream
        with _lock:
            _streams[self.handle] = self

    def submit(self, fn: Callable[..., object], *args: object) -> None:
        """Run ``fn(*args)`` in the order of this stream, with this stream as the current stream.

        On the default stream, and inside an entry of this stream, ``fn`` runs immediately and its exception propagates.
        """
        self._enqueue(fn, *args)

    def is_running_here(self) -> bool:
        """Return whether the calling thread is the thread of this stream: then a queued function makes the call."""
        return threading.current_thread() is self._queue.thread

    def _runs_inline(self) -> bool:
        """Return whether a function that the calling thread submits to this stream runs immediately."""
        return self.handle == 0 or self.is_running_here()

    def _newest(self) -> int:
        """Return the number of the newest entry; if this stream runs inline, of the latest completed entry."""
        return self._queue.completed if self._runs_inline() else self._queue.submitted

    def _enqueue(self, fn: Callable[..., object], *args: object, orders: bool = False) -> int:
        """Queue or run an entry, and return its number: the entry is done when ``completed`` reaches this number."""
        queue = self._queue
        if self._runs_inline():
            with stream(self):
                fn(*args)
            return queue.completed
        with queue.changed:
            if queue.thread is None:
                queue.start(self.handle)
                # Do not end the thread at exit: an exit handler can still use the stream. A daemon thread ends anyway.
                weakref.finalize(self, queue.entries.put, None).atexit = False
            ticket = None if observer is None or orders else observer.queued(self, fn, args)
            queue.submitted += 1
            entry = Entry(context=partial(stream, self), fn=fn, args=args, orders=orders, ticket=ticket)
            queue.entries.put(entry)
            return queue.submitted

    def wait_stream(self, stream: Stream) -> None:
        """Make later work in this stream wait for all work that is in ``stream`` now."""
        self.wait_event(stream.record_event())

    def wait_event(self, event: Event) -> None:
        """Make later work in this stream wait for ``event``."""
        event.wait(self)

    def record_event(self, event: Event | None = None) -> Event:
        """Record ``event``, or a new event, at the current end of this stream. Return the event."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def synchronize(self) -> None:
        """Block the host until this stream is empty; raise the exception of work that failed."""
        submitted = self._queue.submitted
        self._queue.wait(submitted)
        if observer is not None:
            observer.host_waited(stream=self)
        self._queue.report(submitted)

    def query(self) -> bool:
        """Return True if this stream is empty."""
        with self._queue.changed:
            is_empty = self._queue.completed == self._queue.submitted
        if is_empty and observer is not None:
            observer.host_waited(stream=self)
        return is_empty


class _Mark:
    """A recording of an event."""

    def __init__(self, stream: Stream, *, timing: bool) -> None:
        self.time_ns = 0  # the time at which the stream passed this recording; 0 if it is not timed
        self.queue = stream._queue
        # A timed recording is an entry, and this is its number. Otherwise this is the number of the newest entry.
        self.number = stream._enqueue(self._pass, orders=True) if timing else stream._newest()

    def is_passed(self) -> bool:
        """Return whether the stream has passed this recording."""
        return self.queue.completed >= self.number

    def _pass(self) -> None:
        self.time_ns = time.perf_counter_ns()


class Event:
    """A point in a stream. After a new recording, streams that already wait still wait for the old recording."""

    def __init__(self, enable_timing: bool = False) -> None:
        self._timing = enable_timing
        self._mark: _Mark | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Mark the current end of ``stream``, or of the current stream."""
        stream = stream or current_stream()
        self._mark = _Mark(stream, timing=self._timing)
        if observer is not None:
            observer.recorded(self, stream)

    def wait(self, stream: Stream | None = None) -> None:
        """Make ``stream``, or the current stream, wait for the latest recording. Without a recording, do nothing.

        The wait of the default stream blocks the host, because the default stream runs work inline.
        """
        if self._mark is not None:
            stream = stream or current_stream()
            if not self._mark.is_passed():
                stream._enqueue(self._mark.queue.wait, self._mark.number, orders=True)
            if observer is not None:
                observer.waited(self, stream)

    def query(self) -> bool:
        """Return True if everything before the latest recording is done, or if there is no recording."""
        if self._mark is None:
            return True
        is_passed = self._mark.is_passed()
        if is_passed and observer is not None:
            observer.host_waited(event=self)
        return is_passed

    def synchronize(self) -> None:
        """Block the host until everything before the latest recording is done; raise the failure of that work."""
        mark = self._mark
        if mark is not None:
            mark.queue.wait(mark.number)
            if observer is not None:
                observer.host_waited(event=self)
            mark.queue.report(mark.number)

    def elapsed_time(self, end_event: Event) -> float:
        """Return the milliseconds between the times at which the streams passed this event and ``end_event``.

        Raises ``InvalidArgumentError`` unless both events were made with ``enable_timing``, recorded and passed.
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


# The lock of `_streams`.
_lock = threading.Lock()
_handles = itertools.count()
_streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
_current = _Current()
_default = Stream()  # the first stream, so its handle is 0
observer: StreamObserver | None = None  # is notified of each request to a stream; None without an observer


def current_stream() -> Stream:
    """Return the current stream of the calling thread.

    Outside ``stream(...)`` and queued operations, the current stream is the default stream.
    """
    return _current.stream or _default


def default_stream() -> Stream:
    """Return the default stream, which runs work inline."""
    return _default


@contextmanager
def stream(stream: Stream) -> Iterator[Stream]:
    """Make ``stream`` the current stream of the calling thread within a ``with`` block."""
    before, _current.stream = _current.stream, stream
    try:
        yield stream
    finally:
        _current.stream = before


def synchronize() -> None:
    """Block the host until every stream is empty; raise the exception of work that failed.

    Streams that nothing refers to any more are included. If several operations failed, each call raises one failure,
    the oldest first.
    """
    drain()
    if observer is not None:
        observer.host_waited()
    report_failures()


def drain() -> None:
    """Block the host until every stream is empty. Raise no failure of their work; the observer does not notice."""
    # A queued function can queue more work on a stream that this loop has already finished, so look again.
    while busy := _busy():
        for queue in busy:
            queue.wait(queue.submitted)


def _busy() -> list[Queue]:
    """Return the queues that have work, except the calling thread's own queue: no thread waits for itself."""
    own_thread = threading.current_thread()
    with _lock:
        queues = [stream._queue for stream in _streams.values()]
    return [queue for queue in queues if queue.completed < queue.submitted and queue.thread is not own_thread]


def from_handle(handle: int) -> Stream:
    """Return the stream with this handle; raise ``InvalidArgumentError`` if no such stream exists."""
    stream = _streams.get(handle)
    if stream is None:
        raise InvalidArgumentError(f"no CPU stream has handle {handle}: keep the Stream object while it is used")
    return stream
