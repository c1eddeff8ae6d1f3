"""A transport whose calls are recorded."""

from collections.abc import Callable
from typing import Any

from nccl_bench.transports.base import Transport


class Tracer:
    """A wrapper around a transport that records each call whose last argument is a stream."""

    def __init__(self, transport: Transport, calls: list[tuple[str, int]]) -> None:
        self._transport = transport
        self._calls = calls
        self.failures, self.translated = transport.failures, transport.translated

    def direct_all_reduce(self, comm: int) -> tuple[Callable[..., object], Any]:
        function, direct_comm = self._transport.direct_all_reduce(comm)
        return self._recorded("all_reduce", function), direct_comm

    def send_recv(self, *args: int) -> None:
        self._calls += [("send", args[-1]), ("recv", args[-1])]
        self._transport.send_recv(*args)

    def __getattr__(self, name: str) -> Callable[..., object]:
        method: Callable[..., object] = getattr(self._transport, name)
        return method if name.startswith("group") else self._recorded(name, method)

    def _recorded(self, name: str, call: Callable[..., object]) -> Callable[..., None]:
        def recorded(*args: Any) -> None:
            self._calls.append((name, args[-1]))
            call(*args)

        return recorded
