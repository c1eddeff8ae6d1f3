"""The ports and the store of a run on one node, which other processes can reach."""

from __future__ import annotations

import os
import pickle
import socket
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from tests.support.fault_runs import FaultRun
from tests.support.launched_processes import STORE, listeners, listeners_beyond_loopback


class WritesAFile:
    """An object whose pickle makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return open, (str(self.path), "w")


def test_a_run_listens_on_loopback_only_and_loads_no_pickle_from_its_store(tmp_path: Path) -> None:
    loaded = tmp_path / "loaded"
    payload = pickle.dumps(WritesAFile(loaded))
    # A planted value can be in the way of a relaunch, but must never be loaded.
    with FaultRun(tmp_path / "run", PLANTED_SETUP_TIMEOUT_S="4") as run:
        run.wait_for_cases()
        processes = run.sandbox.processes()
        assert len(processes) >= 5
        assert listeners_beyond_loopback(processes) == {}
        (address,) = listeners([run.launched.by_name()[STORE]])
        host, _, port = address.rpartition(":")
        store = dist.TCPStore(host, int(port), is_master=False, timeout=timedelta(seconds=10))
        keys = set(store.list_keys())
        assert any("launch-0" in key for key in keys)
        # The values of the first launch, and those of the next.
        for key in keys | {key.replace("launch-0", "launch-1") for key in keys}:
            store.set(key, payload)
        run.kill("rank 1")
        over = lambda: run.measured_after(0) or len(run.ends()) > 1 or run.command.poll() is not None  # noqa: E731
        run.wait_for(over, running=False)
    assert not loaded.exists()
    pickle.loads(payload).close()
    assert loaded.exists()


def test_a_listener_on_all_interfaces_is_found() -> None:
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        assert listeners_beyond_loopback([os.getpid()])
