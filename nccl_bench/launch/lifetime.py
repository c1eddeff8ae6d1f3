"""Makes sure that a process ends with its parent, and lists the processes of a group. No torch."""

import ctypes
import os
import signal
import sys
import threading

import psutil

# The numbers of linux/prctl.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def signal_at_end_of_parent(number: signal.Signals) -> None:
    """Let the kernel send ``number`` to this process when its parent ends. Does nothing on systems without prctl."""
    _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent ends, so that it can wait for them. Linux only."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with(life: int) -> None:
    """End this process with SIGKILL once the other end of the pipe ``life`` is closed.

    This also works where the kernel sends no signal: on systems without prctl, and in containers.
    """

    def wait() -> None:
        os.read(life, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="end with parent", daemon=True).start()


def group_members(group: int) -> list[int]:
    """Return the ids of the processes of a process group that have not ended."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue  # the process has just ended
    return members


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)
