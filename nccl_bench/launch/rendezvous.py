"""The rendezvous of a launch: every node waits until the other nodes are at the same launch."""

import time

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)

from nccl_bench.errors import NodeLostError
from nccl_bench.launch.messages import FIRST_MEETING_S, MEETING_S
from nccl_bench.launch.nodes import find_ended_node
from nccl_bench.launch.store import connect

BACKEND = "nccl-bench"
_POLL_S = 0.05
# The time between two attempts to connect.
_RECONNECT_S = 0.5


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
        """Wait until every node is at this launch. Raise ``NodeLostError`` if a node has ended or does not join."""
        give_up = time.monotonic() + (FIRST_MEETING_S if self._first else MEETING_S)
        while True:
            try:
                store = connect(self._address.master_addr, self._address.master_port)
                launch = PrefixStore(self._run_id, store)
                self._wait_for_nodes(store, launch, give_up)
            except RuntimeError as error:  # torch raises it if there is no connection
                if time.monotonic() > give_up:
                    raise NodeLostError(_describe_absent([0], first=self._first)) from error
                time.sleep(_RECONNECT_S)
            else:
                return RendezvousInfo(launch, self._node_rank, self._nnodes, self._address)

    def _wait_for_nodes(self, store: Store, launch: Store, give_up: float) -> None:
        # A key for each node, because a new attempt after a lost connection must not count this node again.
        keys = [f"node/{node}" for node in range(self._nnodes)]
        launch.set(keys[self._node_rank], "")
        while not launch.check(keys):
            ended = find_ended_node(store, self._node_rank)
            if ended is not None:
                raise NodeLostError(ended.description)
            if time.monotonic() > give_up:
                absent = [node for node, key in enumerate(keys) if not launch.check([key])]
                raise NodeLostError(_describe_absent(absent, first=self._first))
            time.sleep(_POLL_S)

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


def _describe_absent(nodes: list[int], *, first: bool) -> str:
    """Return the message about ``nodes``, which did not join a launch."""
    names = f"node {nodes[0]}" if len(nodes) == 1 else f"the nodes {', '.join(map(str, nodes))}"
    if first:
        return (
            f"{names} did not start within {FIRST_MEETING_S:g} s: start the command there with the same --nnodes and "
            "--rdzv-endpoint, and check that the nodes reach each other"
        )
    return (
        f"{names} did not come back within {MEETING_S:g} s: the machine or its command has ended, or the network "
        "between the nodes is down"
    )


rendezvous_handler_registry.register(BACKEND, Meeting)
