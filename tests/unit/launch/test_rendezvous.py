"""The meeting of the nodes, with a store in this process."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from torch.distributed import TCPStore
from torch.distributed.distributed_c10d import Store
from torch.distributed.elastic.rendezvous import RendezvousParameters

from nccl_bench.errors import NodeLostError
from nccl_bench.launch import rendezvous
from nccl_bench.launch import store as store_of_node_0
from nccl_bench.launch.nodes import say_ended
from nccl_bench.launch.rendezvous import Meeting


@pytest.fixture
def store() -> TCPStore:
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=10))


def meeting(store: TCPStore, node: int, *, first: bool = False) -> Meeting:
    """Return the meeting of three nodes, as ``node`` sees it."""
    return Meeting(
        RendezvousParameters(
            backend=rendezvous.BACKEND,
            endpoint=f"127.0.0.1:{store.port}",
            run_id="launch-1",
            min_nodes=3,
            max_nodes=3,
            rank=node,
            first=first,
        )
    )


def test_nodes_that_all_come_meet_with_their_own_numbers(store: TCPStore) -> None:
    met: list[int] = []
    threads = [
        threading.Thread(target=lambda node=node: met.append(meeting(store, node).next_rendezvous().rank))
        for node in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(met) == [0, 1, 2]


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (True, "the nodes 1, 2 did not start within 0.2 s: start the command there"),
        (False, "the nodes 1, 2 did not come back within 0.1 s: "),
    ],
)
def test_the_nodes_that_do_not_come_are_named(
    store: TCPStore, monkeypatch: pytest.MonkeyPatch, first: bool, message: str
) -> None:
    monkeypatch.setattr(rendezvous, "FIRST_MEETING_S", 0.2)
    monkeypatch.setattr(rendezvous, "MEETING_S", 0.1)
    with pytest.raises(NodeLostError, match=message):
        meeting(store, 0, first=first).next_rendezvous()


def test_a_node_that_connects_again_counts_once(store: TCPStore, monkeypatch: pytest.MonkeyPatch) -> None:
    lost_connections = iter(range(5))

    def lose_connection(_store: Store, _node: int) -> None:
        if next(lost_connections, None) is not None:
            raise RuntimeError("connection lost")

    monkeypatch.setattr(rendezvous, "find_ended_node", lose_connection)
    monkeypatch.setattr(rendezvous, "_RECONNECT_S", 0)
    monkeypatch.setattr(rendezvous, "MEETING_S", 0.3)
    with pytest.raises(NodeLostError, match=r"^the nodes 1, 2 did not come back"):
        meeting(store, 0).next_rendezvous()
    assert not list(lost_connections)


def test_a_node_that_has_ended_is_not_waited_for(store: TCPStore) -> None:
    say_ended(store, 2, "interrupted by SIGINT")
    with pytest.raises(NodeLostError, match=r"^node 2 has ended: interrupted by SIGINT$"):
        meeting(store, 0).next_rendezvous()


def test_a_missing_store_is_the_fault_of_node_0(store: TCPStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "MEETING_S", 0.1)
    monkeypatch.setattr(store_of_node_0, "_CONNECT", timedelta(seconds=0.2))
    later = meeting(store, 1)
    later._address.master_port = 1  # nobody listens there
    with pytest.raises(NodeLostError, match=r"^node 0 did not come back within 0\.1 s: "):
        later.next_rendezvous()
