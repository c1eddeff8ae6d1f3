"""Tools that hold back, watch and break the CPU's streams."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from nccl_bench.streams import cpu

# No test that passes waits this long; a deadlock fails the test instead of hanging the suite.
PATIENCE_S = 10


class PlantedError(Exception):
    """What tests raise inside ``with`` blocks and on streams."""


def raise_planted_error() -> None:
    """Raise it."""
    raise PlantedError


class Gate:
    """Holds a stream back until it is opened."""

    def __init__(self, stream: cpu.Stream) -> None:
        self._opened = threading.Event()
        stream.submit(self._pass)

    def _pass(self) -> None:
        assert self._opened.wait(PATIENCE_S), "nobody opened the gate"

    def open(self) -> None:
        self._opened.set()


def finishes_within(stream: cpu.Stream, seconds: float = 0.05) -> bool:
    """Whether ``stream`` gets to its end within ``seconds``, without waiting longer than it needs."""
    deadline = time.monotonic() + seconds
    while not stream.query() and time.monotonic() < deadline:
        time.sleep(0.001)
    return stream.query()


def record_stream_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of everything that is queued, ordered or waited for on the CPU's streams from now on."""
    seen: list[str] = []

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def noted(*args: Any) -> Any:
            seen.append(f"{owner.__name__.rpartition('.')[2]}.{name}")
            return original(*args)

        monkeypatch.setattr(owner, name, noted)

    for name in ("submit", "wait_stream", "wait_event", "record_event", "synchronize"):
        watch(cpu.Stream, name)
    for name in ("record", "wait", "synchronize"):
        watch(cpu.Event, name)
    watch(cpu, "synchronize")
    return seen
