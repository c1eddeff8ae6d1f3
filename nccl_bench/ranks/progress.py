"""What the launching process and its workers tell each other, through files in a scratch directory. No torch.

The launcher writes a ``WorkerSpec``; each worker keeps a ``Position`` up to date and leaves a ``Failure`` when it dies
of an exception. Deadlines are ``time.monotonic()`` values, which processes of one host share; a scratch directory never
spans hosts.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

# A position is one write of this size at offset 0, so a later record covers all of an earlier one.
RECORD_BYTES = 1024


# On which a rank writes the stacks of its threads to its ``stacks_file``.
ASK_FOR_STACKS = signal.SIGUSR1


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where one rank is.

    ``case_index`` is -1 during set-up, ``arm`` empty where no arm is at work; ``step`` counts updates, so of two ranks
    that do the same things the one behind has fewer; ``deadline`` is a ``time.monotonic()`` value, set ``timeout_s``
    seconds ahead.
    """

    rank: int
    local_rank: int
    host: str
    pid: int
    case_index: int = -1
    arm: str = ""
    phase: str = "start"
    step: int = 0
    deadline: float | None = None
    timeout_s: float | None = None
    done: bool = False


class Progress:
    """A worker's side: keeps ``position``, and its file where there is a ``scratch`` directory."""

    def __init__(self, scratch: Path | None, rank: int, local_rank: int) -> None:
        self.position = Position(rank=rank, local_rank=local_rank, host=socket.gethostname(), pid=os.getpid())
        self._file = None
        if scratch is not None:
            self._file = os.open(scratch / f"position-{rank}", os.O_WRONLY | os.O_CREAT, 0o600)

    def update(self, *, case_index: int, arm: str, phase: str, deadline_s: float | None) -> None:
        """Say what is about to be done, and by when: seconds from now, or ``None`` to keep the deadline there is."""
        position = replace(self.position, case_index=case_index, arm=arm, phase=phase, step=self.position.step + 1)
        if deadline_s is not None:
            position = replace(position, deadline=time.monotonic() + deadline_s, timeout_s=deadline_s)
        self._set(position)

    def finish(self) -> None:
        """Say that this rank did all of its cases."""
        self._set(replace(self.position, step=self.position.step + 1, done=True))

    def _set(self, position: Position) -> None:
        self.position = position
        if self._file is not None:
            os.pwrite(self._file, _pack(position), 0)


def stacks_file(scratch: Path, rank: int) -> Path:
    """Where a rank writes the stacks of its threads; that there is one says that it can be asked."""
    return scratch / f"stacks-{rank}"


def read_positions(scratch: Path) -> list[Position]:
    """Every rank's position, by rank; without the ranks that have written none yet."""
    positions = (_unpack(path.read_bytes()) for path in scratch.glob("position-*"))
    return sorted((position for position in positions if position is not None), key=lambda position: position.rank)


def overdue(positions: Iterable[Position], now: float) -> Position | None:
    """The rank that keeps the others waiting, once any deadline is before ``now``; ``None`` until then.

    All ranks of a collective that hangs are late together. The culprit is the one that made the fewest steps, and
    the lowest of several.
    """
    busy = [position for position in positions if not position.done]
    if any(position.deadline is not None and position.deadline < now for position in busy):
        return furthest_behind(busy)
    return None


def furthest_behind(positions: Iterable[Position]) -> Position | None:
    """The position with the fewest steps, of the lowest rank where several have as few; ``None`` of none."""
    return min(positions, key=lambda position: (position.step, position.rank), default=None)


_POSITION_FIELDS = tuple(field.name for field in fields(Position))


def _pack(position: Position) -> bytes:
    text = json.dumps([getattr(position, name) for name in _POSITION_FIELDS]).encode()
    record = b"%08x %s" % (zlib.crc32(text), text)
    assert len(record) <= RECORD_BYTES, record
    return record.ljust(RECORD_BYTES)


def _unpack(record: bytes) -> Position | None:
    """The position in ``record``; ``None`` while it is unwritten, or caught in the middle of a write.

    POSIX promises nothing to a reader that overlaps a write, hence the checksum; the next look finds the record whole.
    """
    checksum, _, text = record.rstrip().partition(b" ")
    if len(record) != RECORD_BYTES or checksum != b"%08x" % zlib.crc32(text):
        return None
    return Position(**dict(zip(_POSITION_FIELDS, json.loads(text), strict=True)))
