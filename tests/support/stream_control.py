"""Tools that hold back, watch and break the CPU's streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from nccl_bench.streams import cpu

# No test that passes waits this long; a deadlock fails the test instead of hanging the suite.
PATIENCE_S = 10


class PlantedError(Exception):
    """The error that tests raise in ``with`` blocks and on streams."""


def raise_planted_error() -> None:
    """Raise ``PlantedError``."""
    raise PlantedError


class Gate:
    """Holds a stream back until ``open`` is called."""

    def __init__(self, stream: cpu.Stream) -> None:
        self.arrived = threading.Event()  # set when the stream has reached the gate
        self._opened = threading.Event()
        stream.submit(self._pass)

    def _pass(self) -> None:
        self.arrived.set()
        assert self._opened.wait(PATIENCE_S), "the test did not open the gate"

    def open(self) -> None:
        self._opened.set()


class Silent:
    """An event that orders nothing."""

    def record(self, stream: Any = None) -> None: ...

    def wait(self, stream: Any = None) -> None: ...


def finishes_within(stream: cpu.Stream, seconds: float = 0.05) -> bool:
    """Return whether ``stream`` finishes its work within ``seconds``; do not wait longer than it takes."""
    deadline = time.monotonic() + seconds
    while not stream.query() and time.monotonic() < deadline:
        time.sleep(0.001)
    return stream.query()


def within_patience(fn: Callable[[], object]) -> None:
    """Run ``fn`` in a thread; raise its exception here, and fail the test at a deadlock."""
    outcome: list[BaseException | None] = []

    def run() -> None:
        try:
            fn()
        except BaseException as error:  # noqa: BLE001 - the outcome, for the test to look at
            outcome.append(error)
        else:
            outcome.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert outcome, "deadlock"
    if outcome[0] is not None:
        raise outcome[0]


def stream_threads() -> set[threading.Thread]:
    """Return the threads that the CPU's streams run now."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("cpu-stream-")}


def record_stream_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that from now on collects the names of all calls that queue, order or await the CPU's streams."""
    calls: list[str] = []

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def recorded(*args: Any) -> Any:
            calls.append(f"{owner.__name__.rpartition('.')[2]}.{name}")
            return original(*args)

        monkeypatch.setattr(owner, name, recorded)

    for name in ("submit", "wait_stream", "wait_event", "record_event", "synchronize"):
        watch(cpu.Stream, name)
    for name in ("record", "wait", "synchronize"):
        watch(cpu.Event, name)
    watch(cpu, "synchronize")
    return calls
