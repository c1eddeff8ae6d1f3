"""The news that nodes send each other through the store of node 0: a launch or a node has ended.

Each node has a process for this, because talking to the store can block while the network is down.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from torch.distributed.distributed_c10d import PrefixStore, Store

from nccl_bench.launch.lifetime import end_with, signal_at_end_of_parent
from nccl_bench.launch.messages import AgentRequest
from nccl_bench.launch.store import connect

_POLL_S = 0.25
# When a node ends, it first ends its ranks, and then writes the reason. Another node waits this long for the reason.
_REASON_S = 0.5
# The time that an agent waits for its messenger. A command that ends must not wait longer for the network.
_PATIENCE_S = 2.0
# Keys of the store. A node that ends writes its number after its reason, so a reader of the number finds the reason.
_FIRST_ENDED = "ended"
_REASON = "reason/{}"
_LEFT = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedNode:
    """A node whose command has ended."""

    node: int  # the number of the node
    reason: str  # why its command ended; empty if the command had done its work

    @property
    def description(self) -> str:
        """A message about the node."""
        return f"node {self.node} has ended" + (f": {self.reason}" if self.reason else " its part of the run")


def find_ended_node(store: Store, own_node: int) -> EndedNode | None:
    """Return the first node that has ended; ``None`` if no node has, or if this node was the first."""
    if not store.check([_FIRST_ENDED]):
        return None
    node = int(store.get(_FIRST_ENDED))
    return None if node == own_node else EndedNode(node=node, reason=store.get(_REASON.format(node)).decode())


def say_ended(store: Store, node: int, reason: str) -> None:
    """Write into the store that ``node`` has ended, and the ``reason``."""
    store.set(_REASON.format(node), reason)
    store.compare_set(_FIRST_ENDED, "", str(node))


class Messenger:
    """The agent's side of the process that talks to the other nodes."""

    def __init__(self, request: AgentRequest, port: int, life: int, inherited: tuple[int, ...]) -> None:
        """Start the process, which closes the descriptors ``inherited``. It ends when the pipe ``life`` is closed."""
        self._agent_side, other = socket.socketpair()
        self._received = b""
        self.process = os.fork()
        if self.process == 0:
            self._agent_side.close()
            for descriptor in inherited:
                os.close(descriptor)
            signal_at_end_of_parent(signal.SIGKILL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            end_with(life)
            try:
                _Conversation(request, port, other).run()
            finally:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
        other.close()
        self._agent_side.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is news."""
        return self._agent_side.fileno()

    def news(self) -> list[dict[str, Any]]:
        """Return the news since the last call.

        ``{"lost_node": MESSAGE}``: another node has ended. ``{"failed_on": NODE, "launch": NUMBER}``: a launch has
        failed on another node.
        """
        return [each for each in self._receive() if "answered" not in each]

    def _receive(self) -> list[dict[str, Any]]:
        with suppress(OSError):
            while data := self._agent_side.recv(65536):
                self._received += data
        *lines, self._received = self._received.split(b"\n")
        return [json.loads(line) for line in lines]

    def say_started(self, number: int) -> None:
        """Send the process the number of the current launch."""
        self._send({"started": number})

    def say_failed(self, number: int) -> None:
        """Report to the other nodes that a launch has failed here."""
        self._send({"failed": number})

    def wait_for_end(self) -> list[dict[str, Any]]:
        """Return the news after a launch has failed. Wait for the news that another node has ended."""
        return self._ask({"wait": True})

    def say_end(self, reason: str) -> None:
        """Report to the other nodes that this node ends. Node 0 waits until the others have read this in its store."""
        self._ask({"end_reason": reason})

    def _ask(self, message: Mapping[str, object]) -> list[dict[str, Any]]:
        """Send ``message``, and return the news that come before the answer. Wait for at most ``_PATIENCE_S``."""
        give_up, news = time.monotonic() + _PATIENCE_S, []
        self._send(message)
        while (left := give_up - time.monotonic()) > 0:
            select.select([self._agent_side], [], [], left)
            latest = self._receive()
            news += latest
            if not latest or {"answered": True} in latest:  # no data: the process was killed
                break
        return [each for each in news if "answered" not in each]

    def _send(self, message: Mapping[str, object]) -> None:
        with suppress(OSError):  # the process was killed
            self._agent_side.sendall(json.dumps(message).encode() + b"\n")


class _Conversation:
    """The work of the process: it writes what its agent says into the store, and reads what other nodes wrote."""

    def __init__(self, request: AgentRequest, port: int, agent: socket.socket) -> None:
        self._node, self._nnodes = request.node_rank, request.nnodes
        self._address = (request.host, port)
        self._agent = agent
        self._store: Store | None = None
        self._launch = 0  # the number of the latest launch here
        self._reported: set[str] = set()  # the news that were sent to the agent, as JSON

    def run(self) -> NoReturn:
        received = b""
        while True:
            readable, _, _ = select.select([self._agent], [], [], _POLL_S)
            if readable:
                data = self._agent.recv(65536)
                if not data:
                    os._exit(0)
                *lines, received = (received + data).split(b"\n")
                for line in lines:
                    self._answer(json.loads(line))
            self._with_store(self._look)

    def _answer(self, message: Mapping[str, Any]) -> None:
        if "started" in message:
            self._launch = message["started"]
        elif "failed" in message:
            self._with_store(lambda store: _of_launch(store, message["failed"]).set("failed", str(self._node)))
        else:
            reason = message.get("end_reason")
            self._with_store(self._wait if reason is None else lambda store: self._leave(store, reason))
            self._tell({"answered": True})

    def _wait(self, store: Store) -> None:
        give_up = time.monotonic() + _REASON_S
        while not self._look(store) and time.monotonic() < give_up:
            time.sleep(_POLL_S / 5)

    def _leave(self, store: Store, reason: str) -> None:
        say_ended(store, self._node, reason)
        store.add(_LEFT, 1)
        while self._node == 0 and store.add(_LEFT, 0) < self._nnodes:
            time.sleep(_POLL_S / 5)  # this needs no time limit, because the agent stops waiting

    def _look(self, store: Store) -> bool:
        """Send the agent the news. Return whether another node has ended."""
        launch = _of_launch(store, self._launch)
        if launch.check(["failed"]) and (node := int(launch.get("failed"))) != self._node:
            self._tell({"failed_on": node, "launch": self._launch})
        ended = find_ended_node(store, self._node)
        if ended is not None and ended.reason:
            self._tell({"lost_node": ended.description})
        return ended is not None and bool(ended.reason)

    def _tell(self, news: Mapping[str, object]) -> None:
        line = json.dumps(news)
        if line not in self._reported:
            self._agent.sendall(line.encode() + b"\n")
        if "answered" not in news:
            self._reported.add(line)

    def _with_store(self, act: Callable[[Store], object]) -> None:
        """Call ``act`` with the store. Without a connection, do nothing: every wait for the store has a deadline."""
        try:
            if self._store is None:
                self._store = connect(*self._address)
            act(self._store)
        except RuntimeError:
            self._store = None


def _of_launch(store: Store, number: int) -> Store:
    return PrefixStore(f"launch-{number}", store)
