"""Find the processes of a running command: its agent, the process with torch's launcher, and the ranks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import psutil

from nccl_bench.ranks.progress import Position, read_positions

AGENT = "agent"
LAUNCHER = "torch's launcher"
STORE = "store"


def is_alive(pid: int) -> bool:
    """Return whether the process runs. A process that has ended and was not waited for does not run."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def listeners(pids: Iterable[int]) -> dict[str, int]:
    """Return the addresses, as ``HOST:PORT``, on which one of the processes listens by TCP, each with a process."""
    addresses = {}
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            for connection in psutil.Process(pid).net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    addresses[f"{connection.laddr.ip}:{connection.laddr.port}"] = pid
    return addresses


def listeners_beyond_loopback(pids: Iterable[int]) -> dict[str, int]:
    """Return those of the ``listeners`` that other machines may reach."""
    return {
        address: pid
        for address, pid in listeners(pids).items()
        if not ip_address(address.rpartition(":")[0]).is_loopback
    }


class LaunchedProcesses:
    """The processes below a command. ``temporary`` is the directory for the command's temporary files."""

    def __init__(self, command: int, temporary: Path) -> None:
        self._command = psutil.Process(command)
        self._temporary = temporary

    def launch(self) -> Path | None:
        """Return the directory of the newest launch; ``None`` before the first launch."""
        # `mkdtemp` names directories at random, so the time is the only order.
        launches = [(path.stat().st_mtime_ns, path) for path in self._temporary.glob("nccl-bench-*/launch-*")]
        return max(launches)[1] if launches else None

    def positions(self) -> list[Position]:
        """Return the positions of the living ranks of the newest launch, sorted by rank."""
        launch = self.launch()
        return [] if launch is None else [each for each in read_positions(launch) if is_alive(each.pid)]

    def by_name(self) -> dict[str, int]:
        """Return the ids of the processes by their names. A process that has not started is missing."""
        names = {"command": self._command.pid}
        with suppress(psutil.NoSuchProcess):
            for agent in self._command.children():
                names[AGENT] = agent.pid
                positions = self.positions()
                names |= {f"rank {position.rank}": position.pid for position in positions}
                ranks = {position.pid for position in positions}
                for child in agent.children():
                    below = {process.pid for process in child.children()}
                    names[LAUNCHER if below & ranks else STORE] = child.pid
        return names
