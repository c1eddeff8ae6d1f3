"""Tries the network of this machine: a port of the loopback interface, and the addresses of a host name."""

import socket
import threading
import time
from dataclasses import dataclass

_LOOPBACK = "127.0.0.1"
_CONNECT_S = 1.0
# A name server that does not answer can hold a look-up for a minute.
_LOOK_UP_S = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    """The result of a look-up of a host name."""

    addresses: tuple[str, ...] = ()  # the addresses; empty if there is a problem
    problem: str = ""  # the reason why no address is known; empty if an address is known
    seconds: float = 0.0  # the time until the answer


def listen(port: int) -> None:
    """Listen on ``port`` of the loopback interface, 0 for any port, and connect to it.

    Raises ``OSError`` if that is not possible.
    """
    with socket.create_server((_LOOPBACK, port)) as server:
        server.settimeout(_CONNECT_S)
        with socket.create_connection(server.getsockname(), timeout=_CONNECT_S):
            server.accept()[0].close()


def look_up(host: str) -> LookUp:
    """Return the addresses of ``host``. An answer that takes too long is a problem."""
    answers: list[LookUp] = []
    begin = time.monotonic()

    def ask() -> None:
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            answers.append(LookUp(problem=str(error), seconds=time.monotonic() - begin))
            return
        addresses = dict.fromkeys(str(each[4][0]) for each in entries)
        answers.append(LookUp(addresses=tuple(addresses), seconds=time.monotonic() - begin))

    # A look-up cannot be interrupted. A daemon thread does not keep the process from ending.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_LOOK_UP_S)
    return answers[0] if answers else LookUp(problem=f"no answer within {_LOOK_UP_S:g} s", seconds=_LOOK_UP_S)
