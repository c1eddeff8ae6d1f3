"""Records the calls that an operation makes to a transport, so that they can be made again without the operation."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from nccl_bench.communicators.protocol import Operation
from nccl_bench.transports.base import Transport


class Recorder:
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

    def recorded(self) -> Operation:
        """Return a function that makes the recorded calls."""
        return self.calls[0] if len(self.calls) == 1 else partial(_call_all, tuple(self.calls))


def _call_all(calls: tuple[Callable[[], object], ...]) -> None:
    for call in calls:
        call()
