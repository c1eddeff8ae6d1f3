"""The two ways to order a call on a private stream with the caller's stream, and the parts of each way."""

from functools import partial
from typing import Any

from nccl_bench.catalog.cost_parts import CostPart
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


def fork_join_parts(streams: Streams, private: Any, fork: Any, join: Any) -> dict[CostPart, Operation]:
    """Return what ``fork_join`` adds to a call on the current stream, each part as a function of its own."""
    current_handle, index, from_handle = streams.current_handle, streams.index, streams.from_handle
    caller = streams.current_stream()

    def fetch() -> object:
        return from_handle(current_handle(index))

    def forked() -> None:
        fork.record(caller)
        fork.wait(private)

    def joined() -> None:
        join.record(private)
        join.wait(caller)

    return {CostPart.STREAM: fetch, CostPart.FORK: forked, CostPart.JOIN: joined}


def wait_stream(operation: Operation, streams: Streams, private: Any) -> Operation:
    """Return a call that runs ``operation`` between two calls of ``Stream.wait_stream``, as in inference engines."""
    current_stream = streams.current_stream

    def ordered() -> object:
        private.wait_stream(current_stream())
        result = operation()
        current_stream().wait_stream(private)
        return result

    return ordered


def wait_stream_parts(streams: Streams, private: Any) -> dict[CostPart, Operation]:
    """Return what ``wait_stream`` adds to a call on the current stream, each part as a function of its own."""
    current_stream, caller = streams.current_stream, streams.current_stream()

    def fetch() -> object:
        current_stream()
        return current_stream()

    return {
        CostPart.STREAM: fetch,
        CostPart.FORK: partial(private.wait_stream, caller),
        CostPart.JOIN: partial(caller.wait_stream, private),
    }
