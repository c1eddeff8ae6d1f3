"""Two machines on one: network namespaces with a cable between them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True, kw_only=True)
class Node:
    """A network namespace with a loopback interface and one end of the cable."""

    namespace: str  # the name that `ip netns` knows
    interface: str  # the end of the cable
    address: str  # its IPv4 address

    def command(self, *command: str) -> list[str]:
        """Return the command that runs ``command`` in the namespace."""
        return ["ip", "netns", "exec", self.namespace, *command]

    def listeners(self) -> set[str]:
        """Return the addresses on which processes of the namespace listen for TCP connections."""
        output = _run(*self.command("ss", "-Hltn"))
        return {line.split()[3].rpartition(":")[0].strip("[]").partition("%")[0] for line in output.splitlines()}

    def cut(self) -> None:
        """Take the end of the cable down. No process gets a notice: packets to the other node are lost."""
        _run("ip", "-n", self.namespace, "link", "set", self.interface, "down")


@contextmanager
def two_nodes() -> Iterator[tuple[Node, Node]]:
    """Yield two nodes that reach each other, and remove them afterwards. Skip the test where that is not allowed."""
    missing = [name for name in ("ip", "ss") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed (package iproute2)")
    if os.geteuid() != 0:
        pytest.skip("only root can make network namespaces")
    tag = f"nb{os.getpid()}"
    nodes = tuple(
        Node(namespace=f"{tag}-{number}", interface=f"{tag}v{number}", address=f"10.77.0.{number + 1}")
        for number in range(2)
    )
    made = []
    try:
        for node in nodes:
            try:
                _run("ip", "netns", "add", node.namespace)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"this machine allows no network namespaces: {error.stderr.strip()}")
            made.append(node)
        first, second = nodes
        _run(
            *("ip", "-n", first.namespace, "link", "add", first.interface, "type", "veth"),
            *("peer", "name", second.interface, "netns", second.namespace),
        )
        for node in nodes:
            _run("ip", "-n", node.namespace, "address", "add", f"{node.address}/24", "dev", node.interface)
            for interface in ("lo", node.interface):
                _run("ip", "-n", node.namespace, "link", "set", interface, "up")
        yield first, second
    finally:
        for node in made:
            _run("ip", "netns", "delete", node.namespace)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
