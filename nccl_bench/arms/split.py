"""Calls in three steps, so that a caller can enqueue work that runs beside the collective: fork, call, join.

The caller does the same as an engine: it forks, calls, enqueues its own work on its stream, and joins. A communicator
with a private stream has the second stream already. For another communicator, the caller gives a second stream: as an
argument of the call, or as the current stream during the call.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nccl_bench.communicators.protocol import Operation
from nccl_bench.streams.base import Streams


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCall:
    """A call of a collective beside which the caller's stream can do other work."""

    fork: Operation  # makes the stream of the collective wait for the caller's stream
    call: Operation  # enqueues the collective
    join: Operation  # makes the caller's stream wait for the collective
    stream: Any  # the stream of the collective; None if it is a stream that a library hides


def on_stream(call: Operation, streams: Streams, stream: Any, fork: Any, join: Any) -> SplitCall:
    """Return ``call``, which runs on ``stream``, with the events ``fork`` and ``join`` around it."""
    return SplitCall(
        fork=_edge(streams, fork, to=stream), call=call, join=_edge(streams, join, of=stream), stream=stream
    )


def on_stream_waiting(call: Operation, streams: Streams, stream: Any) -> SplitCall:
    """Return ``call``, which runs on ``stream``, between two calls of ``Stream.wait_stream``."""
    current_stream = streams.current_stream

    def fork() -> None:
        stream.wait_stream(current_stream())

    def join() -> None:
        current_stream().wait_stream(stream)

    return SplitCall(fork=fork, call=call, join=join, stream=stream)


def on_current_stream(
    make_call: Callable[[], Operation], streams: Streams, side: Any, fork: Any, join: Any
) -> SplitCall:
    """Call ``make_call`` with ``side`` as the current stream, and return the call that it makes."""
    with streams.stream(side):
        call = make_call()
    make_current = streams.stream

    def with_side_current() -> object:
        with make_current(side):
            return call()

    return on_stream(with_side_current, streams, side, fork, join)


def _edge(streams: Streams, event: Any, *, of: Any = None, to: Any = None) -> Operation:
    """Return a function that orders two streams with ``event``; ``None`` stands for the caller's stream."""
    current_handle, index, from_handle = streams.current_handle, streams.index, streams.from_handle

    def order() -> None:
        caller = from_handle(current_handle(index))
        event.record(caller if of is None else of)
        event.wait(caller if to is None else to)

    return order
