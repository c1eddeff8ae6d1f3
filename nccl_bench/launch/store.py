"""The store of node 0, where the nodes and the ranks of all launches meet. It listens on one address only.

torch's own rendezvous opens its store on all interfaces. This store listens on loopback for one node, and on the given
address for several. Nothing that it receives is unpickled.
"""

import os
import signal
import socket
import time
from datetime import timedelta
from functools import partial

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import Store

from nccl_bench.errors import SetupError
from nccl_bench.launch.lifetime import end_with, signal_at_end_of_parent

# The time for a connection to the store, and for one answer of the store.
_CONNECT = timedelta(seconds=3)
_ANSWER = timedelta(seconds=20)


def host_store(host: str, port: int, life: int, inherited: tuple[int, ...]) -> tuple[int, int]:
    """Start a process with a store that listens on ``host``; return its process id and its port.

    ``port`` 0 takes any free port. The process ends when the other end of the pipe ``life`` is closed, and closes the
    descriptors ``inherited``. Raises ``SetupError`` if the address cannot be used.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        raise SetupError(
            f"node 0 cannot listen on {host}:{port}: {error.strerror}. Give --rdzv-endpoint an address of node 0 and a "
            "free port"
        ) from error
    bound = listener.getsockname()[1]
    process = os.fork()
    if process == 0:
        for descriptor in inherited:
            os.close(descriptor)
        signal_at_end_of_parent(signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end_with(life)
        _serve(host, bound, listener.detach())
    listener.close()
    return process, bound


def _serve(host: str, port: int, listener: int) -> None:
    """Serve the store until this process is killed."""
    open_store = partial(TCPStore, host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener)
    try:
        store = open_store()
    except NotImplementedError:  # in torch 2.5, where only the older server takes a socket
        store = open_store(use_libuv=False)
    while store is not None:
        time.sleep(3600)


def connect(host: str, port: int) -> Store:
    """Return the store of node 0. Raise ``RuntimeError``, as torch does, if it cannot be reached now."""
    store: Store = TCPStore(host, port, is_master=False, timeout=_CONNECT)
    store.set_timeout(_ANSWER)
    return store
