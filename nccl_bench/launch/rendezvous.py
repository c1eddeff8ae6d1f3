"""Where the nodes and the ranks of a launch meet: a store that listens on one address only.

torch's own rendezvous opens its store on all interfaces. This store listens on loopback for one node, and on the given
address for several. Nothing that it receives is unpickled.
"""

import os
import signal
import socket
import time
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)

from nccl_bench.errors import SetupError
from nccl_bench.ranks.lifetime import signal_at_end_of_parent

BACKEND = "nccl-bench"
# The time for one answer of the store, and for the other nodes to come to a launch after the first one.
STORE_TIMEOUT_S = 20.0
# The time for the other nodes to come to the first launch: a user may start them by hand.
FIRST_MEETING_S = 300.0


def host_store(host: str, port: int, nnodes: int, life_writer: int) -> tuple[int, int]:
    """Start a process with a store that listens on ``host``; return its process id and its port.

    ``port`` 0 takes any free port. The process closes its copy of ``life_writer``. Raises ``SetupError`` if the
    address cannot be used.
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
        os.close(life_writer)
        signal_at_end_of_parent(signal.SIGKILL)
        _serve(host, bound, nnodes, listener.detach())
    listener.close()
    return process, bound


def _serve(host: str, port: int, nnodes: int, listener: int) -> None:
    """Serve the store until this process is killed."""
    store = TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener)
    while store is not None:
        time.sleep(3600)


class Meeting(RendezvousHandler):
    """The rendezvous of one launch, for torch's elastic launcher."""

    def __init__(self, parameters: RendezvousParameters) -> None:
        host, _, port = parameters.endpoint.rpartition(":")
        self._address = RendezvousStoreInfo(host, int(port))
        self._run_id = parameters.run_id
        self._nnodes = parameters.max_nodes
        self._node_rank = int(parameters.config["rank"])
        self._first = parameters.config["first"]

    def get_backend(self) -> str:
        """Return the name of this rendezvous."""
        return BACKEND

    @property
    def use_agent_store(self) -> bool:
        """True: the ranks use the same store."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """Wait until every node is at this launch. Raise ``SetupError`` if one does not come in time."""
        limit_s = FIRST_MEETING_S if self._first else STORE_TIMEOUT_S
        store = connect(self._address.master_addr, self._address.master_port, limit_s)
        launch = PrefixStore(self._run_id, store)
        launch.set(f"node/{self._node_rank}", "")
        for node in range(self._nnodes):
            try:
                launch.wait([f"node/{node}"], timedelta(seconds=limit_s))
            except RuntimeError as error:
                raise SetupError(
                    f"node {node} did not join within {limit_s:g} s: it has ended, or the network between the nodes "
                    "is down"
                ) from error
        return RendezvousInfo(launch, self._node_rank, self._nnodes, self._address)

    def is_closed(self) -> bool:
        """Return False: a launch has one rendezvous."""
        return False

    def set_closed(self) -> None:
        """Do nothing: a launch has one rendezvous."""

    def num_nodes_waiting(self) -> int:
        """Return 0: no node joins later."""
        return 0

    def get_run_id(self) -> str:
        """Return the name of the launch."""
        return self._run_id

    def shutdown(self) -> bool:
        """Return True: the store belongs to the agent."""
        return True


def connect(host: str, port: int, limit_s: float) -> Store:
    """Return the store of node 0. Raise ``SetupError`` if it does not answer within ``limit_s``."""
    give_up = time.monotonic() + limit_s
    while True:
        try:
            left = max(1.0, give_up - time.monotonic())
            store: Store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=min(left, STORE_TIMEOUT_S)))
            return store
        except RuntimeError as error:
            if time.monotonic() > give_up:
                raise SetupError(
                    f"node 0 does not answer at {host}:{port} after {limit_s:g} s: check --rdzv-endpoint, and that "
                    "nccl-bench runs on node 0"
                ) from error
            time.sleep(0.5)


rendezvous_handler_registry.register(BACKEND, Meeting)
