"""The command's side of the agent: starts the agent, lets it start launches, and makes sure that all of them end."""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nccl_bench.errors import NodeLostError, SetupError
from nccl_bench.launch.config import LaunchConfig, agent_environment, module_command
from nccl_bench.launch.lifetime import group_members
from nccl_bench.launch.messages import AGENT_LOG, AgentRequest, LaunchRequest
from nccl_bench.launch.scratch import scratch_directory
from nccl_bench.ranks.spec import LaunchSpec

# A process that SIGKILL does not end is stuck in a driver, and a longer wait does not help.
_UNKILLABLE_S = 30
# An agent that has finished its imports starts a launch in milliseconds.
_START_S = 0.5
# After the request to end, an agent does nothing else, so this time is enough.
_END_S = 5


class Agent:
    """The agent of a command. It starts with the first launch, and again if it was killed."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch  # the directory for the files of all launches
        self.end_reason = ""  # why the command ends, for nodes that still need this one; empty if the work is done
        self._process: subprocess.Popen[bytes] | None = None
        self._received = b""
        self._launches = 0

    def prepare(self, launch: LaunchConfig) -> None:
        """Start the agent for ``launch`` if it does not run. It imports torch while the command does other work."""
        if self._process is None or self._process.poll() is not None:
            self._process = self._start_process(launch)
            self._received = b""

    def start(self, launch: LaunchConfig, spec: LaunchSpec) -> "Job":
        """Start the ranks of ``launch``. ``spec`` names the directory for the files of this launch."""
        self.prepare(launch)
        assert self._process is not None
        assert spec.scratch is not None
        scratch = Path(spec.scratch)
        spec.write(scratch / "spec.json")
        request = LaunchRequest(
            number=self._launches,
            worker=launch.worker,
            spec=str(scratch / "spec.json"),
            scratch=str(scratch),
            nproc=launch.nproc,
            variables=tuple(spec.variables_of(local_rank, launch.nproc) for local_rank in range(launch.nproc)),
            pythons=tuple(spec.python_of(local_rank, launch.nproc) for local_rank in range(launch.nproc)),
        )
        self._launches += 1
        _send(self._process, asdict(request))
        return Job(self, request.number)

    def poll(self) -> int | None:
        """Return the exit code of the agent's process, or ``None`` while it runs."""
        assert self._process is not None
        return self._process.poll()

    def replies(self) -> list[dict[str, Any]]:
        """Return the agent's messages since the last call."""
        assert self._process is not None
        assert self._process.stdout is not None
        with suppress(BlockingIOError):
            while data := os.read(self._process.stdout.fileno(), 65536):
                self._received += data
        *lines, self._received = self._received.split(b"\n")
        return [json.loads(line) for line in lines]

    def wait(self, limit_s: float) -> None:
        """Return when the agent has a message or has ended, or after ``limit_s`` seconds."""
        assert self._process is not None
        assert self._process.stdout is not None
        select.select([self._process.stdout], [], [], limit_s)

    def close(self) -> None:
        """End the agent. All launches must have ended."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        _send(self._process, {"end_reason": self.end_reason})
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        # An agent that still imports torch does not read the pipe.
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _start_process(self, launch: LaunchConfig) -> subprocess.Popen[bytes]:
        host, port = launch.meeting_address
        request = AgentRequest(
            worker=launch.worker,
            scratch=str(self.scratch),
            nnodes=launch.nnodes,
            node_rank=launch.node_rank,
            host=host,
            port=port,
        )
        with (self.scratch / AGENT_LOG).open("ab") as log:
            process = subprocess.Popen(
                module_command("nccl_bench.launch.agent"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=agent_environment(os.environ, launch),
                # Ctrl-C in a terminal must reach only the command, which then ends its ranks.
                start_new_session=True,
            )
        _send(process, asdict(request))
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return process


def _send(process: subprocess.Popen[bytes], message: Mapping[str, object]) -> None:
    assert process.stdin is not None
    # If the agent has just been killed, `Job.poll` reports it.
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()


@contextmanager
def running_agent() -> Iterator[Agent]:
    """Yield an agent that has not started yet. Afterwards, neither its process nor its files are left."""
    with scratch_directory() as scratch:
        agent = Agent(scratch)
        try:
            yield agent
        except BaseException as error:
            agent.end_reason = str(error) or type(error).__name__
            raise
        finally:
            agent.close()


class Job:
    """The processes of one launch on this node: its ranks, and the process that started them."""

    def __init__(self, agent: Agent, number: int) -> None:
        self._agent = agent
        self._number = number
        self._group: int | None = None  # the process group of the launch; None before it starts
        self._exit_code: int | None = None
        self._error: SetupError | None = None  # the error that ends the whole run; None without one

    def poll(self) -> int | None:
        """Return the exit code of the launch, or of the agent if it was killed; ``None`` while the launch runs.

        Raises ``SetupError`` if the agent could not prepare a launch, and ``NodeLostError`` if another node has ended.
        """
        self._read_replies()
        if self._error is not None and self._exit_code != 0:
            raise self._error
        if self._exit_code is None and self._agent.poll() is not None:
            self._read_replies()
            self._exit_code = self._agent.poll() if self._exit_code is None else self._exit_code
        return self._exit_code

    def wait(self, limit_s: float) -> None:
        """Return when the agent has a message about the launch, or after ``limit_s`` seconds."""
        self._agent.wait(limit_s)

    def processes(self) -> list[int]:
        """Return the ids of the launch's processes that still run."""
        return [] if self._group is None else group_members(self._group)

    def end_processes(self, processes: Iterable[int]) -> None:
        """Send SIGKILL to those of ``processes`` that belong to the launch."""
        for process in set(processes).intersection(self.processes()):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def stop(self) -> None:
        """End every process of the launch. Return when all are gone.

        Raises ``SetupError`` if even SIGKILL does not end a process.
        """
        give_up = time.monotonic() + _UNKILLABLE_S
        # A launch that the agent has not started yet must not start later. Close an agent that still imports torch.
        start_by = time.monotonic() + _START_S
        while self._group is None and self._agent.poll() is None and self._exit_code is None:
            if time.monotonic() > start_by:
                self._agent.close()
                return
            self._read_replies()
            time.sleep(0.01)
        while left := self.processes():
            assert self._group is not None, "a launch without a group has no processes"
            with suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)
            if time.monotonic() > give_up:
                raise SetupError(f"the processes {left} do not end even after SIGKILL: a driver holds them, see dmesg")
            time.sleep(0.02)

    def _read_replies(self) -> None:
        for reply in self._agent.replies():
            if "error" in reply:
                self._error = SetupError(reply["error"])
            if "lost_node" in reply:
                self._error = NodeLostError(reply["lost_node"])
            if reply.get("launch") != self._number:
                continue  # a reply about an earlier launch, which this process has killed
            self._group = reply.get("started", self._group)
            self._exit_code = reply.get("ended", self._exit_code)
