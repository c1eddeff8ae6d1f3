"""How a call on a private stream is ordered with the caller's stream."""

from __future__ import annotations

from typing import Any

from nccl_bench.communicators.base import Operation
from nccl_bench.streams.base import Streams


def fork_join(operation: Operation, streams: Streams, private: Any, fork: Any, join: Any) -> Operation:
    """Return ``operation`` between two waits, of ``private`` for the caller's stream and of that for ``private``.

    ``fork`` and ``join`` are events made beforehand, so that a call makes none.
    """
    # Both arms fetch the current stream the same cheap way; the object behind the handle is one look-up away.
    current_handle, index, from_handle = streams.current_handle, streams.index, streams.from_handle

    def ordered() -> None:
        caller = from_handle(current_handle(index))
        fork.record(caller)
        fork.wait(private)
        operation()
        join.record(private)
        join.wait(caller)

    return ordered


def wait_stream(operation: Operation, streams: Streams, private: Any) -> Operation:
    """Return ``operation`` between two calls of ``Stream.wait_stream``, as callers write it."""
    current_stream = streams.current_stream

    def ordered() -> None:
        private.wait_stream(current_stream())
        operation()
        current_stream().wait_stream(private)

    return ordered
