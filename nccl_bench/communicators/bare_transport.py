"""The transport's calls without a communicator around them: the floor under ``stream-free``.

An operation is recorded once, then called again with its arguments as they were. What a communicator costs a call is
the difference between ``stream-free`` and this.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from nccl_bench.communicators.base import Operation
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.transports.base import Transport


class _Recorder:
    """Stands in for a transport and notes the calls it gets instead of making them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.group = partial(Transport.group, cast(Transport, self))
        self.calls: list[Callable[[], None]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        method = getattr(self._transport, name)

        def note(*args: object) -> None:
            self.calls.append(partial(method, *args))

        return note


class RecordedCommunicator(StreamFreeCommunicator):
    """A stream-free communicator whose operations can be turned into the transport's calls they make."""

    def prepare(self, operation: Operation) -> Operation:
        """Return the transport's calls of ``operation``, for its tensors and the stream that is current now."""
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
