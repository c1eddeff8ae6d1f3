"""The queues of the CPU's streams: a queue has entries, a thread that runs them, and the failure of an entry."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import SimpleQueue

from nccl_bench.streams.observer import Ticket

_THREAD_PREFIX = "cpu-stream-"
# The lock of `_failed`. Code that needs both locks takes a queue's `changed` first.
_lock = threading.Lock()
_failed: list[Queue] = []  # queues whose failure was not raised yet, the oldest failure first


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A piece of queued work."""

    context: Callable[[], AbstractContextManager[object]]  # makes the stream of this entry the current stream
    fn: Callable[..., object]  # the queued function
    args: tuple[object, ...]  # the arguments of `fn`
    orders: bool  # True if this entry records an event or waits for one; then it runs even after a failure
    ticket: Ticket | None  # the observer's note about this entry; None without an observer


class _Changed(threading.Condition):
    """The condition of a queue. An audit ignores this class, and watches only the conditions of the program."""


class Queue:
    """The part of a stream that its thread and its events use.

    A queue holds no reference to its stream: such a reference would keep the stream alive, and its thread would never
    end. The context of an entry refers to the stream, so a stream lives until its queue is empty. Entries are numbered
    from 1 in the order in which they are queued.
    """

    def __init__(self) -> None:
        self.changed = _Changed()
        # The stream's finalizer calls `put`, even during another `put`, which only a SimpleQueue allows.
        self.entries: SimpleQueue[Entry | None] = SimpleQueue()
        self.thread: threading.Thread | None = None
        self.submitted = 0  # the number of the newest entry
        self.completed = 0  # the number of the latest entry that is done
        self.awaited: list[int] = []  # for each thread that waits, the number of the entry that it waits for
        self.failure: BaseException | None = None  # the exception that no synchronisation has raised yet
        self.failed_at = 0  # the number of the entry that raised `failure`
        self.skip_until = 0  # the number of the last entry to skip

    def start(self, handle: int) -> None:
        """Start the thread of the stream with this handle."""
        thread = threading.Thread(target=self._serve, name=f"{_THREAD_PREFIX}{handle}", daemon=True)
        thread.start()
        self.thread = thread

    def _serve(self) -> None:
        """Run entries until one is ``None``."""
        while (entry := self.entries.get()) is not None:
            try:
                if entry.orders or not self._skips():
                    with entry.context():
                        if entry.ticket is None:
                            entry.fn(*entry.args)
                        else:
                            entry.ticket.run(entry.fn, entry.args)
            except BaseException as error:  # noqa: BLE001 - the next synchronisation raises it
                with self.changed, _lock:
                    self.failure = error
                    self.failed_at = self.completed + 1
                    _failed.append(self)
            if entry.ticket is not None:
                entry.ticket.end()
            # Free the arguments before the entry counts as completed: a caller that has synchronised expects this. A
            # failure's traceback keeps this frame alive. Without `del`, this frame would keep the stream alive.
            del entry
            with self.changed:
                self.completed += 1
                # A thread that waits for a later entry would only wake up, look and wait again.
                if self.completed in self.awaited:
                    self.changed.notify_all()

    def _skips(self) -> bool:
        with self.changed:
            return self.failure is not None or self.completed < self.skip_until

    def wait(self, number: int) -> None:
        """Block until entry ``number`` is completed. The queue's own thread never waits for itself."""
        if threading.current_thread() is not self.thread:
            with self.changed:
                if self.completed >= number:
                    return
                self.awaited.append(number)
                try:
                    self.changed.wait_for(lambda: self.completed >= number)
                finally:
                    self.awaited.remove(number)

    def report(self, number: int) -> None:
        """Raise the failure of an entry up to ``number``, if that failure was not raised before."""
        with self.changed, _lock:
            if self.failure is None or self.failed_at > number:
                return
            error, self.failure = self.failure, None
            self.skip_until = self.submitted
            _failed.remove(self)
        try:
            raise error
        finally:
            del error  # otherwise the exception and this frame would keep each other alive


def report_failures() -> None:
    """Raise the oldest failure of all queues that was not raised yet."""
    with _lock:
        failed = list(_failed)
    for queue in failed:
        queue.report(queue.submitted)


def is_stream_thread(thread: threading.Thread) -> bool:
    """Return whether ``thread`` serves a stream."""
    return thread.name.startswith(_THREAD_PREFIX)
