"""The agent, with ends of processes that the test makes up."""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from nccl_bench.errors import SetupError
from nccl_bench.launch import agent as agent_module
from nccl_bench.launch.agent import _AgentProcess
from nccl_bench.launch.messages import AgentRequest, LaunchRequest

PROCESS = 4_200_000  # larger than any process id of Linux
NOTHING = (0, 0)  # what waitpid returns while no child has ended


class SilentMessenger:
    """A messenger without news, which notes what the other nodes get to know."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.silence, self._writer = os.pipe()

    def fileno(self) -> int:
        return self.silence

    def say_failed(self, number: int) -> None:
        self.events.append(f"launch {number} has failed")


class Pipes:
    """The pipes between the command and the agent, with both ends of each."""

    def __init__(self) -> None:
        self.commands, self.command_writer = os.pipe()
        self.reply_reader, self.replies = os.pipe()

    def agent(self, scratch: Path) -> _AgentProcess:
        """Return the agent of node 0 of two nodes."""
        request = AgentRequest(worker="w", scratch=str(scratch), nnodes=2, node_rank=0, host="127.0.0.1", port=0)
        return _AgentProcess(request, self.commands, self.replies)


def end_children(monkeypatch: pytest.MonkeyPatch, ends: Iterator[tuple[int, int]]) -> None:
    """Let waitpid return ``ends``, and afterwards that no child has ended."""
    monkeypatch.setattr(agent_module.os, "waitpid", lambda _process, _options: next(ends, NOTHING))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("seen_late", [False, True])
def test_a_launch_that_the_command_killed_is_reported_before_the_next_one_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen_late: bool
) -> None:
    pipes, events = Pipes(), []
    agent = pipes.agent(tmp_path)
    agent._launch = PROCESS
    agent._messenger = SilentMessenger(events)  # type: ignore[assignment]

    def start(request: LaunchRequest) -> None:
        events.append(f"launch {request.number} starts")
        os.close(pipes.command_writer)  # the command ends, so `serve` returns

    monkeypatch.setattr(agent, "_start", start)
    end_children(monkeypatch, iter([*([NOTHING] if seen_late else []), (PROCESS, signal.SIGKILL)]))
    request = LaunchRequest(number=1, worker="w", spec="", scratch="", nproc=1, variables=({},), pythons=(None,))
    os.write(pipes.command_writer, json.dumps(asdict(request)).encode() + b"\n")
    agent.serve()
    assert events == ["launch 0 has failed", "launch 1 starts"]


def test_an_agent_whose_store_has_ended_signals_no_process_with_its_id_and_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    agent = Pipes().agent(scratch)
    agent._store = PROCESS
    end_children(monkeypatch, iter([(PROCESS, signal.SIGKILL)]))
    with pytest.raises(SetupError, match="the store of node 0 has ended"):
        agent._reap()

    class Exited(BaseException):
        pass

    def leave(_code: int) -> None:
        raise Exited

    def wait() -> None:
        raise ChildProcessError

    signalled: list[int] = []
    monkeypatch.setattr(agent_module.signal, "signal", lambda _number, _handler: None)
    monkeypatch.setattr(agent_module.os, "kill", lambda process, _number: signalled.append(process))
    monkeypatch.setattr(agent_module.os, "wait", wait)
    monkeypatch.setattr(agent_module.os, "_exit", leave)
    with pytest.raises(Exited):
        agent.end()
    assert signalled == []
    assert not scratch.exists()


def test_the_agent_collects_no_garbage_during_imports_and_ranks_never_collect_what_was_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = AgentRequest(worker="w", scratch=str(tmp_path), nnodes=1, node_rank=1, host="127.0.0.1", port=0)
    seen: list[tuple[str, bool]] = []
    monkeypatch.setattr(agent_module.importlib, "import_module", lambda _name: seen.append(("import", gc.isenabled())))
    monkeypatch.setattr(agent_module.gc, "freeze", lambda: seen.append(("freeze", gc.isenabled())))
    _AgentProcess(request, *NOTHING).prepare()
    assert list(dict.fromkeys(seen)) == [("import", False), ("freeze", False)]
    assert gc.isenabled()
