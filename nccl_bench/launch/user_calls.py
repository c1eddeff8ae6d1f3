"""Where ranks that hang are in code of the user's. No torch.

Each rank writes the stacks of its threads, most recent call first, when it is asked for them; Python does so even
within a call that never returns.
"""

from __future__ import annotations

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

# It takes a rank microseconds, unless the machine has other things to do.
_PATIENCE_S = 1.0
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')
# Ours, Python's and what is installed.
_NO_USER_S = (str(Path(__file__).resolve().parents[1]), *(sysconfig.get_path(name) for name in ("stdlib", "purelib")))


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCall:
    """A call of the user's that a rank is in; ``last`` says that no other was made from there."""

    rank: int
    where: str
    last: bool


def find_user_call(positions: Sequence[Position], late: Position, scratch: Path) -> UserCall | None:
    """The call of the user's that everybody waits for, of those that ranks on this host are in; ``None`` of none."""
    # A file of stacks says that the signal is waited for, which else would end the process.
    asked = [
        position
        for position in positions
        if position.host == socket.gethostname() and position.pid and stacks_path(scratch, position.rank).exists()
    ]
    for position in asked:
        with suppress(OSError):
            os.kill(position.pid, STACKS_SIGNAL)
    give_up = time.monotonic() + _PATIENCE_S
    found: list[UserCall] = []
    while len(found) < len(asked) and time.monotonic() < give_up:
        time.sleep(0.05)
        found = [stuck for position in asked for stuck in _stuck(position.rank, scratch)]
    # A rank that is in no other call is where it ends; the others may wait for it in the same call.
    return min(found, key=lambda stuck: (not stuck.last, stuck.rank != late.rank), default=None)


def _stuck(rank: int, scratch: Path) -> Iterator[UserCall]:
    file = stacks_path(scratch, rank)
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    for thread in text.split("\n\n"):
        frames = [match.groups() for line in thread.splitlines() if (match := _FRAME.match(line))]
        users = [number for number, (path, _, _) in enumerate(frames) if not path.startswith((*_NO_USER_S, "<"))]
        if users:
            path, line, name = frames[users[0]]
            shown = os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path
            yield UserCall(rank=rank, where=f"{name} ({shown}:{line})", last=users[0] == 0)
            return
