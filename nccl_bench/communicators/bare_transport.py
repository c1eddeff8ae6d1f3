"""The calls to the transport without a communicator around them: ``stream-free`` cannot be faster.

An operation is recorded once. Later calls repeat its calls to the transport with the recorded arguments. The
difference between ``stream-free`` and this arm is the time that a communicator adds to a call.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

from nccl_bench.communicators.protocol import Operation
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.transports.base import Transport


class _Recorder:
    """A substitute for a transport. It records calls and does not make them."""

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
    """A stream-free communicator whose arms make only the calls to the transport."""

    def prepare(self, operation: Operation) -> Operation:
        """Run ``operation`` once; return a function that repeats the calls that it made to the transport."""
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
