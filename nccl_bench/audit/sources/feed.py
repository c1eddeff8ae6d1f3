"""The queue of actions between the sources and ``Order``.

Actions reach ``Order`` one after another, in the order in which the host asked for them. Work of the CPU's streams is
known only after it has run. Until then its place in the queue is kept, and later actions wait.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nccl_bench.audit.order.actions import Action, Work, WorkLaunched
from nccl_bench.audit.order.places import Stream
from nccl_bench.audit.order.races import Race
from nccl_bench.audit.sources.ranges import Touched
from nccl_bench.audit.sources.stacks import Stack, capture, capture_thread, current_thread_is_pythons


@dataclass(slots=True)
class Place:
    """A place in the queue, for actions that are known later."""

    thread: int  # the number of the thread that asked for the actions
    outer: Stack  # the stack of the call that asked for the actions
    stream: Stream  # the stream that does the work
    actions: list[Action | Place] = field(default_factory=list)  # the actions so far, and places for later ones
    is_complete: bool = False  # True when no more actions come


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.collected: list[Action | Place] | None = None  # gets this thread's actions instead of the queue
        self.place: Place | None = None  # the place whose work this thread does
        self.hidden = 0  # above 0, the thread's actions are dropped
        self.number = threading.get_ident()
        self.is_pythons = False  # True once Python is known to have started the thread

    def look(self) -> bool:
        """Return whether Python started this thread."""
        # A new thread already sends a signal just before the threading module knows the thread. So keep only True.
        self.is_pythons = self.is_pythons or current_thread_is_pythons()
        return self.is_pythons


class Feed:
    """The queue of actions of all threads. ``take`` gets the actions one by one."""

    def __init__(self, take: Callable[[Action], Sequence[Race]]) -> None:
        self._take = take
        self._queue: deque[Action | Place] = deque()
        self._lock = threading.Lock()
        self._per_thread = _PerThread()
        self.owner = threading.get_ident()  # the thread for which threads of C++ work
        self._numbers = itertools.count(1)
        self.is_open = True  # False after the watch: later actions are dropped
        self.program_ns = 0  # the time of the reported operators, in nanoseconds
        self.audit_ns = 0  # the time of the reports themselves, in nanoseconds

    def new_number(self) -> int:
        """Return a new number, different from all handles and from all other numbers of this feed."""
        return -next(self._numbers)

    def thread(self) -> int:
        """Return the number of the calling thread.

        A thread of C++, such as autograd's, works for ``owner``. The thread of a CPU stream works for the thread that
        queued the work.
        """
        state = self._per_thread
        if state.place is not None:
            return state.place.thread
        return state.number if state.is_pythons or state.look() else self.owner

    def stack(self) -> Stack:
        """Return the stack of the calling thread. Around it is the stack of the call for which the thread works."""
        state = self._per_thread
        if state.place is not None:
            return capture(state.place.outer)
        return capture(None if state.is_pythons or state.look() else capture_thread(self.owner))

    def launched(
        self,
        name: str,
        stream: Stream,
        touched: Touched,
        where: Stack,
        is_collective: bool = False,
        communicator: int | None = None,
    ) -> WorkLaunched:
        """Return a record of work that the calling thread launches on ``stream``; ``where`` is the thread's stack."""
        where.touched = touched
        return WorkLaunched(
            thread=self.thread(),
            stream=stream,
            work=Work(name=name, is_collective=is_collective, where=where),
            reads=touched.reads,
            writes=touched.writes,
            communicator=communicator,
        )

    def put(self, action: Action | Place) -> None:
        """Append an action of the calling thread."""
        state = self._per_thread
        if state.hidden or not self.is_open:
            return
        if state.collected is not None:
            state.collected.append(action)
            return
        self._queue.append(action)
        self._pass_on()

    def extend(self, actions: Sequence[Action | Place]) -> None:
        """Append several actions of the calling thread."""
        for action in actions:
            self.put(action)

    def collect(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, list[Action | Place]]:
        """Call ``function``; return its result, and the actions of the calling thread during the call.

        These actions are not queued. Only if ``function`` raises an exception, they are queued.
        """
        state = self._per_thread
        actions: list[Action | Place] = []
        before, state.collected = state.collected, actions
        try:
            result = function(*args, **kwargs)
        except BaseException:
            state.collected = before
            self.extend(actions)
            raise
        state.collected = before
        return result, actions

    @contextmanager
    def hiding(self) -> Iterator[None]:
        """Drop the calling thread's actions within the ``with`` block."""
        self._per_thread.hidden += 1
        try:
            yield
        finally:
            self._per_thread.hidden -= 1

    @property
    def is_in_pythons_thread(self) -> bool:
        """Return whether Python started the calling thread."""
        return self._per_thread.is_pythons or self._per_thread.look()

    @property
    def is_hiding(self) -> bool:
        """Return whether the calling thread's actions are dropped."""
        return self._per_thread.hidden > 0

    def keep_place(self, outer: Stack, stream: Stream) -> Place:
        """Append a place for actions that are known later, and return it."""
        place, collected = Place(self.thread(), outer, stream), self._per_thread.collected
        if not self._per_thread.hidden and self.is_open:
            (self._queue if collected is None else collected).append(place)
        return place

    @contextmanager
    def filling(self, place: Place) -> Iterator[None]:
        """Put the calling thread's actions into ``place`` within the ``with`` block."""
        state = self._per_thread
        collected, outer = state.collected, state.place
        state.collected, state.place = place.actions, place
        try:
            yield
        finally:
            state.collected, state.place = collected, outer

    def complete(self, place: Place) -> None:
        """Mark ``place`` as complete: it gets no more actions."""
        place.is_complete = True
        self._pass_on()

    def restart(self) -> None:
        """Drop the actions that are still in the queue, and take new actions again."""
        with self._lock:
            self._queue.clear()
        self.is_open = True

    def flush(self) -> None:
        """Pass on everything that is complete. If another thread is doing this, wait for that thread first."""
        with self._lock:
            self._empty()

    def _pass_on(self) -> None:
        # A finalizer can run during `take`, in the same thread. The outer loop then takes the actions of the finalizer.
        if self._lock.acquire(blocking=False):
            try:
                self._empty()
            finally:
                self._lock.release()

    def _empty(self) -> None:
        queue = self._queue
        while queue:
            head = queue[0]
            if isinstance(head, Place):
                if not head.is_complete:
                    return
                queue.popleft()
                # The actions go to the front of the queue. A place among them can still be incomplete.
                queue.extendleft(reversed(head.actions))
            else:
                self._take(head)
                queue.popleft()
