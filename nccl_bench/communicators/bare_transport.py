"""The transport's calls without a communicator around them: the floor under ``stream-free``.

An operation is recorded once. Each call of it then repeats the transport's calls with the recorded arguments. The
difference between ``stream-free`` and this arm is what a communicator adds to a call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from nccl_bench.communicators.protocol import Operation
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.transports.base import Transport


class _Recorder:
    """A stand-in for a transport that records calls and does not make them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.group = partial(Transport.group, cast(Transport, self))
        self.calls: list[Callable[[], None]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        method = getattr(self._transport, name)

        def record(*args: object) -> None:
            self.calls.append(partial(method, *args))

        return record


class RecordedCommunicator(StreamFreeCommunicator):
    """A stream-free communicator that reduces an operation to the transport's calls in it."""

    def prepare(self, operation: Operation) -> Operation:
        """Return the transport's calls in ``operation``, for its tensors and the stream that is current now."""
        transport, retain = self._transport, self._retain
        recorder = _Recorder(transport)
        self._transport, self._retain = cast(Transport, recorder), None
        try:
            operation()
        finally:
            self._transport, self._retain = transport, retain
        if len(recorder.calls) == 1:
            return recorder.calls[0]
        return partial(_call_all, tuple(recorder.calls))


def _call_all(calls: tuple[Callable[[], None], ...]) -> None:
    for call in calls:
        call()
