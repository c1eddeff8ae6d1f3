"""The communicator of the arm ``bare-transport``, which makes only the calls to the transport.

An operation's calls to the transport are recorded once. Later, only the recorded calls are repeated. ``stream-free``
cannot be faster than this arm. The difference of the two arms is the time that a communicator adds to a call.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from nccl_bench.communicators.protocol import Operation
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.errors import InvalidArgumentError
from nccl_bench.transports.base import Transport


class _Recorder:
    """A substitute for a transport that records calls and does not make them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.failures = transport.failures
        self.group = partial(Transport.group, cast(Transport, self))
        self.calls: list[Callable[[], object]] = []

    def direct_all_reduce(self, comm: int) -> tuple[Callable[..., None], Any]:
        """Record the call of the binding's own function."""
        function, direct_comm = self._transport.direct_all_reduce(comm)
        return lambda *args: self.calls.append(partial(function, *args)), direct_comm

    def __getattr__(self, name: str) -> Callable[..., None]:
        method = getattr(self._transport, name)

        def record(*args: object) -> None:
            self.calls.append(partial(method, *args))

        return record


class RecordedCommunicator(StreamFreeCommunicator):
    """A stream-free communicator whose arms make only the calls to the transport."""

    def returning(self, collective: str) -> Callable[..., object]:
        """Raise ``InvalidArgumentError``: recorded calls allocate no output."""
        raise InvalidArgumentError(f"recorded calls of {collective} allocate no output")

    def prepare(self, operation: Operation) -> Operation:
        """Record the calls of ``operation`` to the transport, and return a function that makes the recorded calls."""
        transport, retain = self._transport, self._retain
        recorder = _Recorder(transport)
        self._call_through(cast(Transport, recorder))
        self._retain = None
        try:
            operation()
        finally:
            self._call_through(transport)
            self._retain = retain
        if len(recorder.calls) == 1:
            return recorder.calls[0]
        return partial(_call_all, tuple(recorder.calls))


def _call_all(calls: tuple[Callable[[], object], ...]) -> None:
    for call in calls:
        call()
