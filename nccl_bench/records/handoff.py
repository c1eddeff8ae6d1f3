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
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Self

from nccl_bench.config import RunConfig, resolve
from nccl_bench.errors import ExitCode, ForeignError, NcclBenchError
from nccl_bench.worlds import World, worlds_of

# A position is one write of this size at offset 0, so a later record covers all of an earlier one.
RECORD_BYTES = 1024
# On which a rank writes the stacks of its threads to its ``stacks_file``.
ASK_FOR_STACKS = signal.SIGUSR1
_MESSAGE_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What one launch of the workers is to do.

    ``run_dir`` is ``None`` on nodes other than the first, ``scratch`` where no launcher watches (the attach mode);
    ``first_case`` is an index into the plan's cases; of earlier launches, ``excluded`` are the arms that failed and
    ``apart`` those that did not get past set-up beside others, with the reason; ``started`` is the
    ``time.monotonic()`` of the command's start, the same for every launch.
    """

    config: RunConfig
    run_dir: str | None
    scratch: str | None
    first_case: int
    excluded: tuple[str, ...] = ()
    apart: Mapping[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def worlds(self) -> tuple[World, ...]:
        """Who does what in this launch."""
        return worlds_of(self.config, excluded=self.excluded, apart=self.apart)

    @property
    def processes_per_rank(self) -> int:
        """One in each world."""
        return len(self.worlds)

    def at(self, scratch: str, first: int) -> Self:
        """The same for one launch, which has ``scratch`` to itself and starts with the case at index ``first``."""
        return replace(self, scratch=scratch, first_case=first)

    def write(self, path: Path) -> None:
        """Write the specification as JSON."""
        mapping = {
            "config": self.config.to_mapping(),
            "run_dir": self.run_dir,
            "scratch": self.scratch,
            "first_case": self.first_case,
            "excluded": list(self.excluded),
            "apart": dict(self.apart),
            "started": self.started,
        }
        path.write_text(json.dumps(mapping), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> WorkerSpec:
        """The specification that ``write`` wrote; raises ``UsageError`` for a configuration this version refuses."""
        mapping = json.loads(path.read_text(encoding="utf-8"))
        config = mapping.pop("config")
        excluded = tuple(mapping.pop("excluded"))
        return cls(config=resolve(config["device"], config), excluded=excluded, **mapping)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The exception that ended a worker.

    ``kind`` is its class, ``message`` the last lines of its text and ``time`` the host's ``time.monotonic()``.
    """

    rank: int
    host: str
    case_index: int
    arm: str
    kind: str
    message: str
    exit_code: int
    time: float

    @classmethod
    def of(cls, error: BaseException, position: Position) -> Failure:
        """What ended the worker that is at ``position``."""
        return cls(
            rank=position.rank,
            host=position.host,
            case_index=position.case_index,
            arm=position.arm,
            kind=type(error).__name__,
            message="\n".join(str(error).strip().splitlines()[-_MESSAGE_LINES:]),
            exit_code=int(error.exit_code if isinstance(error, NcclBenchError) else ExitCode.SETUP),
            time=time.monotonic(),
        )

    @property
    def told(self) -> str:
        """The rank, its host and what was wrong; with a user's communicator that says all there is to say."""
        how = "" if self.kind == ForeignError.__name__ else f" ended with exit code {self.exit_code}: {self.kind}"
        return f"rank {self.rank} on {self.host}{how}: {self.message}"

    def write(self, scratch: Path) -> None:
        """Leave this for the launcher, whole or not at all."""
        path = scratch / f"failure-{self.rank}"
        part = path.with_name(f".{path.name}")
        try:
            part.write_text(json.dumps(asdict(self)), encoding="utf-8")
            part.replace(path)
        except OSError:
            # The worker is ending on the error held here. A full disk must not take its place: the error is in the
            # worker's log too, and the launcher reads that where this file is missing.
            return


def read_failures(scratch: Path) -> list[Failure]:
    """Every failure, the first to happen first."""
    failures = [Failure(**json.loads(path.read_text(encoding="utf-8"))) for path in scratch.glob("failure-*")]
    return sorted(failures, key=lambda failure: failure.time)


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
