"""The agent's process: it imports torch once, and forks a process with torch's elastic launcher for each launch.

The command and the agent send each other messages over pipes, one JSON message in each line. The agent never starts
CUDA.

When the command ends, for any reason, the kernel closes the pipe. The agent then ends every process that it started,
and removes their files.
"""

import gc
import importlib
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nccl_bench.errors import SetupError
from nccl_bench.launch.lifetime import adopt_orphans, signal_at_end_of_parent
from nccl_bench.launch.messages import LAUNCH_LOG, AgentRequest, LaunchEnd, LaunchRequest

if TYPE_CHECKING:
    from nccl_bench.launch.nodes import Messenger

# The agent looks for the end of a launch this often.
_POLL_S = 0.02
# Modules that ranks use. A module that the agent has not imported is imported again in each rank.
_PRELOADED = ("torch.distributed", "torch.cuda", "numpy.random")
# A launch that has failed on another node fails on this node too. The ranks of this node have this long to report why.
_OWN_REPORT_S = 5.0


class _AgentProcess:
    def __init__(self, request: AgentRequest, commands: int, replies: int) -> None:
        self._request = request
        self._commands = commands
        self._replies = replies
        self._pipes = (commands, replies)
        # The ranks end when this pipe closes. Only the agent keeps the pipe's writing end.
        self._life, self._life_writer = os.pipe()
        self._launch: int | None = None  # the process of the current launch, which is also a process group
        self._number = 0  # the number of the current launch
        self._store: int | None = None  # the process with the store; None except on node 0
        self._port = request.port
        self._scratch = ""  # the directory for the files of the current launch
        self._messenger: Messenger | None = None  # the process that talks to other nodes; None on one node
        self._failed_on: int | None = None  # another node on which the current launch has failed
        self._end_at = 0.0  # the time at which the agent ends a launch that has failed on another node
        # The reason that other nodes read if the command gives no reason.
        self._end_reason = "its command was killed"

    def reply(self, **message: object) -> None:
        os.write(self._replies, json.dumps(message).encode() + b"\n")

    def prepare(self) -> None:
        """Import what the ranks need, and start the store on node 0."""
        # Imports make many objects and little garbage. Collections would take a fifth of the time of the imports.
        gc.disable()
        from nccl_bench.launch import elastic, nodes

        for name in (*_PRELOADED, self._request.worker, elastic.__name__):
            importlib.import_module(name)
        request = self._request
        if request.node_rank == 0:
            self._host_store()
        if request.nnodes > 1:
            self._messenger = nodes.Messenger(request, self._port, self._life, (*self._pipes, self._life_writer))
        # The ranks never collect the objects that exist now: a collection would copy their pages of memory.
        gc.freeze()
        gc.enable()

    def serve(self) -> None:
        """Serve the requests of the command until the command ends."""
        received = b""
        requested: LaunchRequest | None = None
        while True:
            sources: list[int | Messenger] = [self._commands]
            if self._messenger is not None:
                sources.append(self._messenger)
            readable, _, _ = select.select(sources, [], [], _POLL_S if self._launch else None)
            if self._messenger is not None and self._messenger in readable:
                self._handle(self._messenger.news())
            if self._commands in readable:
                data = os.read(self._commands, 65536)
                if not data:
                    return
                *lines, received = (received + data).split(b"\n")
                for message in map(json.loads, lines):
                    if "end_reason" in message:
                        self._end_reason = message["end_reason"]
                    else:
                        requested = LaunchRequest(**message)
            self._reap()
            # The command has killed the earlier launch. Start the next launch only when the kernel has reported the end
            # of the earlier one.
            if requested is not None and self._launch is None:
                self._start(requested)
                requested = None
            if self._launch and self._failed_on is not None and time.monotonic() > self._end_at:
                self._end_launch(self._launch, self._failed_on)

    def end(self) -> NoReturn:
        """End every process and remove their files, then end this process."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # Without this message, the other nodes would first see their own ranks fail.
        if self._messenger is not None:
            self._messenger.say_end(self._end_reason)
            os.kill(self._messenger.process, signal.SIGKILL)
        with suppress(ProcessLookupError):
            if self._launch is not None:
                os.killpg(self._launch, signal.SIGKILL)
        if self._store is not None:
            os.kill(self._store, signal.SIGKILL)
        with suppress(ChildProcessError):  # no child is left
            while True:
                os.wait()
        shutil.rmtree(self._request.scratch, ignore_errors=True)
        os._exit(0)

    def _host_store(self) -> None:
        from nccl_bench.launch import store

        request = self._request
        self._store, self._port = store.host_store(
            request.host, request.port, self._life, (*self._pipes, self._life_writer)
        )

    def _start(self, request: LaunchRequest) -> None:
        from nccl_bench.launch import elastic

        process = os.fork()
        if process:
            # Parent and child both make the group, so that it exists no matter which of the two runs first.
            os.setpgid(process, process)
            self._launch = process
            self._number, self._scratch, self._failed_on = request.number, request.scratch, None
            if self._messenger is not None:
                self._messenger.say_started(request.number)
            self.reply(launch=self._number, started=process)
            return
        os.setpgid(0, 0)
        signal_at_end_of_parent(signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for descriptor in (*self._pipes, self._life_writer):
            os.close(descriptor)
        if self._messenger is not None:
            os.close(self._messenger.fileno())
        log = os.open(Path(request.scratch) / LAUNCH_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = elastic.launch_ranks(self._request, request, self._port, self._life)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def _reap(self) -> None:
        """Wait for the children that have ended, and report the end of the launch.

        A rank whose parent has ended is a child of this process too.
        """
        try:
            while True:
                process, status = os.waitpid(-1, os.WNOHANG)
                if process == 0:
                    return
                if process == self._launch:
                    self._launch = None
                    if status and self._messenger is not None:
                        self._messenger.say_failed(self._number)
                        # A signal means that the command has ended the launch. Otherwise another node may be to blame.
                        if not os.WIFSIGNALED(status):
                            self._handle(self._messenger.wait_for_end())
                    self.reply(launch=self._number, ended=os.waitstatus_to_exitcode(status))
                elif process == self._store:
                    self._store = None  # `end` must not send a signal to another process with this id
                    if self._request.nnodes > 1:
                        raise SetupError("the process with the store of node 0 has ended")
                    # The next launch on this node needs a store, but ranks that have started do not.
                    self._host_store()
                elif self._messenger is not None and process == self._messenger.process:
                    self._messenger = None  # without a messenger, only a deadline shows that another node has ended
        except ChildProcessError:
            return  # no child is left

    def _handle(self, news: Iterable[Mapping[str, Any]]) -> None:
        """Report to the command that another node has ended. Note if the current launch has failed on another node."""
        for each in news:
            if "lost_node" in each:
                self.reply(lost_node=each["lost_node"])
            elif each["launch"] == self._number and self._failed_on is None:
                self._failed_on, self._end_at = each["failed_on"], time.monotonic() + _OWN_REPORT_S

    def _end_launch(self, group: int, failed_on: int) -> None:
        """End the current launch: it has failed on another node, and the ranks of this node go on."""
        LaunchEnd(error=f"node {failed_on} has ended this launch, because of a crash or a deadline there").write(
            Path(self._scratch)
        )
        self._failed_on = None
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def main() -> NoReturn:
    """Serve the command at the other end of standard input and output."""
    agent: _AgentProcess | None = None
    ended = False

    def on_end(_number: int, _frame: object) -> None:
        nonlocal ended
        ended = True
        if agent is not None:
            agent.end()

    # During imports nobody reads the pipe. So a signal of the kernel reports the end of the command.
    signal.signal(signal.SIGTERM, on_end)
    signal_at_end_of_parent(signal.SIGTERM)
    adopt_orphans()
    # Ranks inherit standard input and output: a user arm must neither read the commands nor write replies.
    commands, replies = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    with open(commands, "rb", buffering=0, closefd=False) as file:
        request = AgentRequest(**json.loads(file.readline()))
    agent = _AgentProcess(request, commands, replies)
    if ended:
        agent.end()
    try:
        agent.prepare()
        # From now on the closed pipe shows that the command has ended. The last message has the reason.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        agent.serve()
    except SetupError as error:
        agent.reply(error=str(error))
    agent.end()


if __name__ == "__main__":
    main()
