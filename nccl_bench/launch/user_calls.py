"""Finds the call of the user's code in which a rank hangs.

On a signal each rank writes the stacks of its threads, the most recent call first. Python does so even within a call
that never returns.
"""

import os
import re
import socket
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nccl_bench.ranks.progress import STACKS_SIGNAL, Position, stacks_path

# A rank answers within microseconds, unless the machine is busy.
_PATIENCE_S = 1.0
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')
# The directories of this package, Python's library and installed packages.
_NOT_THE_USERS = (
    str(Path(__file__).resolve().parents[1]),
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCall:
    """A call of the user's code that a rank is in."""

    rank: int  # the rank that is in the call
    location: str  # the function, with its file and line
    innermost: bool  # True if the user's code itself runs, False if that code waits in a library


def find_user_call(positions: Sequence[Position], late: Position, scratch: Path) -> UserCall | None:
    """Return the call of the user's code that all ranks wait for; ``None`` if no rank of this host is in user code."""
    # Skip a rank that has no file for stacks yet: it has no handler, so the signal would kill the rank.
    reachable = [
        position
        for position in positions
        if position.host == socket.gethostname() and position.pid and stacks_path(scratch, position.rank).exists()
    ]
    for position in reachable:
        with suppress(OSError):
            os.kill(position.pid, STACKS_SIGNAL)
    give_up = time.monotonic() + _PATIENCE_S
    calls: list[UserCall] = []
    while len(calls) < len(reachable) and time.monotonic() < give_up:
        time.sleep(0.05)
        calls = [call for position in reachable for call in _read_user_call(position.rank, scratch)]
    # Prefer a rank that hangs in the user's code itself: other ranks may wait for that rank inside a library.
    return min(calls, key=lambda call: (not call.innermost, call.rank != late.rank), default=None)


def _read_user_call(rank: int, scratch: Path) -> Iterator[UserCall]:
    file = stacks_path(scratch, rank)
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    for thread in text.split("\n\n"):
        frames = [match.groups() for line in thread.splitlines() if (match := _FRAME.match(line))]
        of_user = [number for number, (path, _, _) in enumerate(frames) if not path.startswith((*_NOT_THE_USERS, "<"))]
        if of_user:
            path, line, name = frames[of_user[0]]
            short = os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path
            yield UserCall(rank=rank, location=f"{name} ({short}:{line})", innermost=of_user[0] == 0)
            return
