"""The two ways to order a call on a private stream with the caller's stream."""

from typing import Any

from nccl_bench.communicators.protocol import Operation
from nccl_bench.streams.base import Streams


def fork_join(operation: Operation, streams: Streams, private: Any, fork: Any, join: Any) -> Operation:
    """Return a call that runs ``operation`` between a fork to the stream ``private`` and a join.

    ``fork`` and ``join`` are two events. The caller makes the events once, so that a timed call makes no events.
    """
    # Get the current stream's handle as cheaply as the stream-free arm does. Then look up the stream of that handle.
    current_handle, index, from_handle = streams.current_handle, streams.index, streams.from_handle

    def ordered() -> object:
        caller = from_handle(current_handle(index))
        fork.record(caller)
        fork.wait(private)
        result = operation()
        join.record(private)
        join.wait(caller)
        return result

    return ordered


def wait_stream(operation: Operation, streams: Streams, private: Any) -> Operation:
    """Return a call that runs ``operation`` between two calls of ``Stream.wait_stream``, as in inference engines."""
    current_stream = streams.current_stream

    def ordered() -> object:
        private.wait_stream(current_stream())
        result = operation()
        current_stream().wait_stream(private)
        return result

    return ordered
