"""Looks at the processes of ranks: which have ended, and which do not run although they have not ended."""

import socket
from collections.abc import Iterable

import psutil

from nccl_bench.ranks.progress import Position
from nccl_bench.records.schema import RankState

_STATES = {psutil.STATUS_STOPPED: RankState.STOPPED, psutil.STATUS_TRACING_STOP: RankState.TRACED}
_ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def find_stopped(positions: Iterable[Position]) -> tuple[Position, RankState] | None:
    """Return the first of ``positions`` whose rank is stopped, and its state; ``None`` if every rank runs."""
    states = ((position, _STATES.get(_status(position))) for position in positions)
    return next(((position, state) for position, state in states if state is not None), None)


def find_ended(positions: Iterable[Position]) -> frozenset[int]:
    """Return the ranks of this host whose processes have ended."""
    return frozenset(position.rank for position in positions if _status(position) in _ENDED)


def _status(position: Position) -> str:
    """Return the state of the rank's process as psutil names it; an empty text for a rank of another host."""
    if not position.pid or position.host != socket.gethostname():
        return ""
    try:
        return psutil.Process(position.pid).status()
    except psutil.NoSuchProcess:
        return psutil.STATUS_DEAD
