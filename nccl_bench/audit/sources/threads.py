"""Python's threads: each is watched, and their signals to each other order their work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import torch

from nccl_bench.audit.order.actions import SignalReceived, SignalSent, ThreadEnded
from nccl_bench.audit.sources.base import Replacements, Source
from nccl_bench.audit.sources.feed import Feed
from nccl_bench.audit.sources.operators import Operators
from nccl_bench.streams.cpu_queues import is_stream_thread


class ThreadsSource(Source):
    """Watches threads that start during the watch: their operators, and how threads wait for each other."""

    name: ClassVar[str] = "Python threads"
    sees: ClassVar[str] = "start, join, Queue, Event, Condition, Semaphore, Barrier, Future and ThreadPoolExecutor"
    blind_to: ClassVar[tuple[str, ...]] = (
        "Operators in threads that started before the watch.",
        "Threads that wait for each other through a bare Lock, a SimpleQueue, a pipe or a variable.",
    )

    def __init__(self, feed: Feed, operators: Operators) -> None:
        self._feed = feed
        self._operators = operators
        self._replacements = Replacements()
        self._ends: dict[threading.Thread, int] = {}  # a thread -> the signal of its end

    def refusal(self) -> str | None:
        return None

    def start(self) -> None:
        replace = self._replacements.replace
        replace(threading.Thread, "start", self._watched_start)
        replace(threading.Thread, "join", self._watched_join)
        replace(threading.Condition, "__enter__", self._receiving)
        replace(threading.Condition, "__exit__", self._sending)
        replace(threading.Condition, "wait", self._watched_wait)
        replace(ThreadPoolExecutor, "submit", self._watched_submit)
        replace(torch.autograd, "_engine_run_backward", self._watched_backward)

    def stop(self) -> None:
        self._replacements.restore()

    def _send(self, signal: int) -> None:
        self._feed.put(SignalSent(thread=self._feed.thread(), signal=signal))

    def _receive(self, signal: int) -> None:
        self._feed.put(SignalReceived(thread=self._feed.thread(), signal=signal))

    def _watched_start(self, start: Callable[..., None]) -> Callable[..., None]:
        def watched(thread: threading.Thread) -> None:
            if not is_stream_thread(thread):
                begun, ended = self._feed.new_number(), self._feed.new_number()
                self._send(begun)
                self._ends[thread] = ended
                thread.run = self._watched_run(thread.run, begun, ended)  # type: ignore[method-assign]
            start(thread)

        return watched

    def _watched_run(self, run: Callable[[], None], begun: int, ended: int) -> Callable[[], None]:
        def watched() -> None:
            self._receive(begun)
            try:
                with self._operators.watching():
                    run()
            finally:
                self._send(ended)
                self._feed.put(ThreadEnded(thread=self._feed.thread()))

        return watched

    def _watched_join(self, join: Callable[..., None]) -> Callable[..., None]:
        def watched(thread: threading.Thread, timeout: float | None = None) -> None:
            join(thread, timeout)
            if not thread.is_alive() and thread in self._ends:
                self._receive(self._ends[thread])

        return watched

    # A condition is identified by its lock, because the conditions of a Queue share one lock.

    def _receiving(self, enter: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def watched(condition: Any) -> Any:
            result = enter(condition)
            self._pass(condition, self._receive)
            return result

        return watched

    def _sending(self, leave: Callable[..., Any]) -> Callable[..., Any]:
        def watched(condition: Any, *args: Any) -> Any:
            self._pass(condition, self._send)
            return leave(condition, *args)

        return watched

    def _watched_wait(self, wait: Callable[..., bool]) -> Callable[..., bool]:
        def watched(condition: Any, timeout: float | None = None) -> bool:
            self._pass(condition, self._send)
            result = wait(condition, timeout)
            self._pass(condition, self._receive)
            return result

        return watched

    def _pass(self, condition: Any, act: Callable[[int], None]) -> None:
        # A subclass belongs to a library, such as the CPU's streams, and signals nothing to the program's threads.
        if type(condition) is threading.Condition and self._ends:
            act(id(vars(condition)["_lock"]))

    def _watched_backward(self, run_backward: Callable[..., Any]) -> Callable[..., Any]:
        """Let the threads of autograd work for the thread that waits for them."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            before, self._feed.owner = self._feed.owner, threading.get_ident()
            try:
                return run_backward(*args, **kwargs)
            finally:
                self._feed.owner = before

        return watched

    def _watched_submit(self, submit: Callable[..., Any]) -> Callable[..., Any]:
        def watched(executor: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            begun = self._feed.new_number()
            self._send(begun)

            def received(*args: Any, **kwargs: Any) -> Any:
                self._receive(begun)
                return fn(*args, **kwargs)

            return submit(executor, received, *args, **kwargs)

        return watched
