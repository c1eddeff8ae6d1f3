"""The messages between the command and its agent about a launch, as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

_LAUNCH_END = "launch-end.json"
# The time for the other nodes to join the first launch: a user may start them by hand.
FIRST_MEETING_S = 300.0
# The time for the other nodes to join a later launch, and for node 0 to answer.
MEETING_S = 20.0
# The file, in the directory of a command's launches, with the output of the agent.
AGENT_LOG = "agent.log"
# The file, in the directory of a launch, with the output of torch's launcher.
LAUNCH_LOG = "launch.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRequest:
    """The first message to an agent: what it needs for all launches."""

    worker: str  # the module that each rank runs
    scratch: str  # the directory for the files of all launches; the agent removes it if the command is killed
    nnodes: int  # the number of nodes
    node_rank: int  # the number of this node
    host: str  # the host on which node 0 listens
    port: int  # the port on which node 0 listens; 0 for any free port


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """A message to an agent: start the ranks of one launch."""

    number: int  # the number of the launch within its command, from 0
    worker: str  # the module that each rank runs
    spec: str  # the file of the specification, which each rank reads
    scratch: str  # the directory for the files of this launch
    nproc: int  # the number of processes on this node
    variables: tuple[Mapping[str, str], ...]  # for each process, the variables that only this process gets
    pythons: tuple[str | None, ...]  # for each of these processes, its interpreter; None for a fork of the agent


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """The end of a process other than by exit code 0."""

    rank: int  # the rank's number for torch's launcher, which counts the ranks of all process sets
    local_rank: int  # the rank's number for torch's launcher on its node
    code: int  # the exit code; a negative number is a signal


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchEnd:
    """The end of a launch on this node. If no field is set, every rank ended well."""

    exits: tuple[Exit, ...] = ()  # the rank that ended first; torch's launcher then ended the other ranks
    error: str | None = None  # the error that kept the launch from starting, or that ended it
    lost_node: str | None = None  # the message about another node that has ended or did not join

    def write(self, scratch: Path) -> None:
        """Write the end into a file in ``scratch``, completely or not at all."""
        # The agent and the launch that it ends can both write, so each process has a part file of its own.
        part = scratch / f".{_LAUNCH_END}.{os.getpid()}"
        part.write_text(json.dumps(asdict(self)), encoding="utf-8")
        part.replace(scratch / _LAUNCH_END)

    @classmethod
    def read(cls, scratch: Path) -> LaunchEnd | None:
        """Return the end in ``scratch``; ``None`` if the launch was ended before it wrote the file."""
        path = scratch / _LAUNCH_END
        if not path.exists():
            return None
        mapping = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**mapping, "exits": tuple(Exit(**each) for each in mapping["exits"])})
