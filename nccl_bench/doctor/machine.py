"""The sources of all facts about this machine. A test gives other sources, with facts that must be found."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nccl_bench.doctor.sockets import LookUp, listen, look_up
from nccl_bench.doctor.torch_facts import TorchFacts
from nccl_bench.records.nvml import Nvml

# A program that does not answer in this time is treated as missing.
_PROGRAM_S = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The space of a file system."""

    total_bytes: int  # all space
    free_bytes: int  # the space that this user can still take


def space_of(path: Path) -> Space:
    """Return the space of the file system with ``path``; raise ``OSError`` if the path does not exist."""
    stat = os.statvfs(path)
    return Space(total_bytes=stat.f_blocks * stat.f_frsize, free_bytes=stat.f_bavail * stat.f_frsize)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The sources of facts. An examination reads nothing else."""

    nvml: Nvml = field(repr=False)  # the driver's library
    ranks: int  # the number of ranks of a run with default options
    torch: Callable[[], TorchFacts]  # waits for the process that imports torch, and returns what it saw
    root: Path = Path("/")  # the directory in which the files of the system are
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)  # environment variables
    python_path: Sequence[str] = field(default_factory=lambda: tuple(sys.path), repr=False)  # folders of packages
    host: str = field(default_factory=socket.gethostname)  # the name of this machine
    cpus: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))  # the CPUs that this process may use
    space: Callable[[Path], Space] = space_of  # returns the space of the file system with a path
    listen: Callable[[int], None] = listen  # listens on a port of the loopback interface, or raises OSError
    look_up: Callable[[str], LookUp] = look_up  # looks up the addresses of a host name

    @property
    def gpus(self) -> list[Any]:
        """The handles of all GPUs, in the order of their numbers."""
        return self.nvml.gpus()

    def path(self, name: str) -> Path:
        """Return the path of a file of the system; ``name`` is absolute."""
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str | None:
        """Return the content of a file of the system without outer spaces; ``None`` if it cannot be read."""
        try:
            return self.path(name).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder of the system, sorted; empty if the folder cannot be read."""
        try:
            return sorted(entry.name for entry in self.path(folder).iterdir())
        except OSError:
            return []

    def has_program(self, name: str) -> bool:
        """Return True if this user can start a program by its name."""
        return shutil.which(name, path=self._program_path) is not None

    def output(self, *command: str) -> str:
        """Return what a program prints; an empty text if it is missing, fails or does not end."""
        program = shutil.which(command[0], path=self._program_path)
        if program is None:
            return ""
        try:
            answer = subprocess.run(
                [program, *command[1:]], capture_output=True, text=True, timeout=_PROGRAM_S, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return ""
        return answer.stdout

    @property
    def _program_path(self) -> str:
        # ldconfig is in /sbin, which a user's PATH can lack.
        folders = (str(self.path(name)) for name in ("/usr/sbin", "/sbin"))
        return os.pathsep.join((self.environ.get("PATH", os.defpath), *folders))
