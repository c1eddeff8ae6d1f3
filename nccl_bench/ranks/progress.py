"""The position and the deadline of each rank, which the rank writes and the launcher reads. No torch.

Each rank has one file in a scratch directory. Deadlines are values of ``time.monotonic()``, which is the same
clock for all processes of one host. Each host has its own scratch directory.
"""

import json
import os
import signal
import socket
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

# Each position is one write of this size at offset 0, so it replaces the earlier position completely.
RECORD_BYTES = 1024
# On this signal a rank writes the stacks of its threads to its `stacks_path`.
STACKS_SIGNAL = signal.SIGUSR1


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The position of one rank in its work."""

    rank: int  # the rank's number for torchrun, which counts the ranks of all process sets
    local_rank: int  # the rank's number for torchrun on its node
    host: str  # the name of the rank's host
    pid: int  # the id of the rank's process
    case_index: int = -1  # the index of a case, or of another item of work; -1 during set-up
    arm: str = ""  # the arm at work; empty if none is
    phase: str = "start"  # the work that the rank does, for messages
    step: int = 0  # the number of updates so far; a rank that is behind has fewer
    deadline: float | None = None  # a time.monotonic() value; None before the first deadline is set
    timeout_s: float | None = None  # the time limit, in seconds, from which the deadline was computed
    done: bool = False  # True if the rank has done all of its work


class Progress:
    """The position of this rank. A file in ``scratch``, if there is one, also holds the position."""

    def __init__(self, scratch: Path | None, rank: int, local_rank: int) -> None:
        self.position = Position(rank=rank, local_rank=local_rank, host=socket.gethostname(), pid=os.getpid())
        self._file = None
        if scratch is not None:
            self._file = os.open(scratch / f"position-{rank}", os.O_WRONLY | os.O_CREAT, 0o600)

    def update(self, *, case_index: int, arm: str, phase: str, deadline_s: float | None) -> None:
        """Record the rank's next work, due in ``deadline_s`` seconds from now; ``None`` keeps the last deadline."""
        position = replace(self.position, case_index=case_index, arm=arm, phase=phase, step=self.position.step + 1)
        if deadline_s is not None:
            position = replace(position, deadline=time.monotonic() + deadline_s, timeout_s=deadline_s)
        self._set(position)

    def finish(self) -> None:
        """Record that the rank has done all of its work."""
        self._set(replace(self.position, step=self.position.step + 1, done=True))

    def _set(self, position: Position) -> None:
        self.position = position
        if self._file is not None:
            os.pwrite(self._file, _pack(position), 0)


def stacks_path(scratch: Path, rank: int) -> Path:
    """Return the path of the file for the stacks of a rank. The file exists once the rank handles ``STACKS_SIGNAL``."""
    return scratch / f"stacks-{rank}"


def read_positions(scratch: Path) -> list[Position]:
    """Return the positions in ``scratch``, sorted by rank. A rank that has not written its position is missing."""
    positions = (_unpack(path.read_bytes()) for path in scratch.glob("position-*"))
    return sorted((position for position in positions if position is not None), key=lambda position: position.rank)


def find_overdue(positions: Iterable[Position], now: float) -> list[Position]:
    """Return the positions of all ranks at work if any deadline is before ``now``, otherwise none.

    If a collective hangs, all its ranks are late. The first position is that of the rank with the fewest steps. The
    other ranks wait for this rank, unless another rank is stopped.
    """
    busy = sorted((position for position in positions if not position.done), key=_steps_and_rank)
    return busy if any(each.deadline is not None and each.deadline < now for each in busy) else []


def furthest_behind(positions: Iterable[Position]) -> Position | None:
    """Return the position with the fewest steps, the lowest rank among equals; ``None`` without positions."""
    return min(positions, key=_steps_and_rank, default=None)


def _steps_and_rank(position: Position) -> tuple[int, int]:
    return position.step, position.rank


_POSITION_FIELDS = tuple(field.name for field in fields(Position))


def _pack(position: Position) -> bytes:
    text = json.dumps([getattr(position, name) for name in _POSITION_FIELDS]).encode()
    record = b"%08x %s" % (zlib.crc32(text), text)
    assert len(record) <= RECORD_BYTES, record
    return record.ljust(RECORD_BYTES)


def _unpack(record: bytes) -> Position | None:
    """Return the position in ``record``, or ``None`` if ``record`` is empty or only partly written.

    A read during a write can mix two positions, so the record has a checksum. The next read gets the complete record.
    """
    checksum, _, text = record.rstrip().partition(b" ")
    if len(record) != RECORD_BYTES or checksum != b"%08x" % zlib.crc32(text):
        return None
    return Position(**dict(zip(_POSITION_FIELDS, json.loads(text), strict=True)))
