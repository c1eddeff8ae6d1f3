"""The call that would order the two accesses of a race, and the line where this call belongs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nccl_bench.audit.findings.record import FoundAccess, FoundRace, Line
from nccl_bench.audit.order.races import Missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """The call that would order the accesses of a race."""

    code: str  # the call, with the names `stream`, `x` or `work`
    place: str  # where the call belongs, such as `before model.py:88`
    meaning: str  # what the names in the code stand for


# The missing orders that a wait for the first work would make.
_WAITS_FOR_FIRST = (Missing.JOIN, Missing.WAIT, Missing.HOST_WAIT)


def remedy(race: FoundRace) -> Remedy:
    """Return the call that would order the accesses of ``race``."""
    if race.missing in _WAITS_FOR_FIRST and _is_distributed(race.first):
        return _work_wait(race)
    return _REMEDIES[race.missing](race)


def _work_wait(race: FoundRace) -> Remedy:
    return Remedy(
        code="work.wait()",
        place=_before(race.second),
        meaning=f"`work` is what the call at {_place(race.first.line)} returned",
    )


def _fork(race: FoundRace) -> Remedy:
    return Remedy(
        code=f"stream.wait_stream({_current(race.first)})",
        place=_before(race.second),
        meaning=f"`stream` is {race.second.stream}, that of {race.second.work}",
    )


def _join(race: FoundRace) -> Remedy:
    return Remedy(
        code=f"{_current(race.second)}.wait_stream(stream)",
        place=_before(race.second),
        meaning=f"`stream` is {race.first.stream}, that of {race.first.work}",
    )


def _wait(race: FoundRace) -> Remedy:
    return Remedy(
        code="later.wait_stream(earlier)",
        place=_before(race.second),
        meaning=f"`later` is {race.second.stream} and `earlier` is {race.first.stream}",
    )


def _host_wait(race: FoundRace) -> Remedy:
    return Remedy(
        code="stream.synchronize()",
        place=_before(race.second),
        meaning=f"`stream` is {race.first.stream}; waiting for an event that is recorded behind {race.first.work} "
        "does it too",
    )


def _signal(race: FoundRace) -> Remedy:
    return Remedy(
        code="event.wait()",
        place=_before(race.second),
        meaning=f"`event` is a threading.Event that the other thread sets behind {_place(race.first.line)}",
    )


def _record_stream(race: FoundRace) -> Remedy:
    return Remedy(
        code="x.record_stream(stream)",
        place=f"after {_place(race.first.line)}",
        meaning=f"`x` is the tensor that {race.first.work} uses, and `stream` is {race.first.stream}",
    )


_REMEDIES: Mapping[Missing, Callable[[FoundRace], Remedy]] = {
    Missing.FORK: _fork,
    Missing.JOIN: _join,
    Missing.WAIT: _wait,
    Missing.HOST_WAIT: _host_wait,
    Missing.SIGNAL: _signal,
    Missing.RECORD_STREAM: _record_stream,
}


def _before(access: FoundAccess) -> str:
    return f"before {_place(access.replayed or access.line)}"


def _place(line: Line | None) -> str:
    return line.place if line is not None else "a line that is not known"


def _current(access: FoundAccess) -> str:
    return "torch.cuda.current_stream()" if access.device >= 0 else "current_stream()"


def _is_distributed(access: FoundAccess) -> bool:
    """Return whether ``access`` is a collective of torch.distributed, which returns an object to wait for."""
    return access.is_collective and access.work.startswith(("c10d", "_c10d"))
