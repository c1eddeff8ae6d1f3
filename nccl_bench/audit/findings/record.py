"""The findings of one rank, which the rank writes into a file and the command reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nccl_bench.audit.order.races import AccessMode, Missing, RaceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the user's program."""

    path: str  # the file; relative to the program's start directory if the file is below it
    number: int  # the number of the line, from 1
    function: str  # the function around the line
    source: str = ""  # the text of the line; empty if the file could not be read

    @property
    def place(self) -> str:
        """The file and the number of the line."""
        return f"{self.path}:{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAccess:
    """An access that races with another one."""

    work: str  # the operator or collective, for example `aten::mul` or `ncclAllReduce`
    is_collective: bool  # True if the work is a collective
    mode: AccessMode  # what the work does with the bytes
    stream: str  # the stream of the work in words; `the host` if the host did it itself
    device: int = -1  # the number of the GPU; -1 for the CPU
    is_side: bool = False  # True if the stream is not a default stream
    lines: tuple[Line, ...] = ()  # the calls of the user's program, the innermost first; empty if none is known
    in_graph: bool = False  # True if the work is part of a captured graph
    replayed: Line | None = None  # the line that replayed the graph; None for work that was not replayed

    @property
    def line(self) -> Line | None:
        """The innermost line of the user's program; None if it is unknown."""
        return self.lines[0] if self.lines else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRace:
    """Two accesses to the same bytes that nothing orders."""

    kind: RaceKind  # the kind of the race, which also shows how bad the race is
    missing: Missing  # the order that is missing
    first: FoundAccess  # the access that the host asked for first
    second: FoundAccess  # the access that the host asked for later
    overlap_bytes: int  # how many bytes both use, in the first occurrence
    freed: Line | None = None  # the line that freed the memory between the accesses; None if nothing did
    count: int = 1  # how often the race occurred, on all of its ranks together
    ranks: tuple[int, ...] = ()  # the ranks on which the race occurred

    @property
    def identity(self) -> tuple[object, ...]:
        """The values that two occurrences of the same race share, on one rank or on several."""
        return (self.kind, self.missing, _identity(self.first), _identity(self.second))


def _identity(access: FoundAccess) -> tuple[object, ...]:
    return access.work, access.mode, access.line, access.replayed


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedSource:
    """A way in which programs use a device, and how far the watch could see it."""

    name: str  # the source
    sees: str  # what the source watches
    blind_to: tuple[str, ...] = ()  # what the source cannot see
    reason_off: str | None = None  # why the source did not watch; None if it watched


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The share of a rank's steps that was watched. The module ``audit.sampling`` says what a step is."""

    every: int  # one of this number of steps was watched
    steps: int  # the number of steps
    watched: int  # the number of steps that were watched
    watched_step_s: float | None = None  # the median time of a watched step, in seconds; None without one
    paused_step_s: float | None = None  # the median time of an unwatched step, in seconds; None without one


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """The amount of work that a rank did under watch, and the cost of the watch."""

    actions: int = 0  # works, waits, allocations
    works: int = 0  # operators, kernels and collectives
    collectives: Mapping[str, int] = field(default_factory=dict)  # the number of calls of each collective
    program_s: float = 0.0  # the time from the start of the program to its end, in seconds
    judging_s: float = 0.0  # the time for judging the actions, in seconds; a part of the cost
    slowdown: float = 1.0  # the factor by which the watch slowed the watched operators at least
    remembered: int = 0  # what the order held at the end: accesses, blocks of memory, clocks and their times
    peak_bytes: int = 0  # the most memory of the rank's process, the program included
    sample: Sample | None = None  # the steps that were watched; None if the whole program was watched


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramEnd:
    """The end of the program of a rank."""

    exit_code: int  # the exit code that the program would have had
    error: str = ""  # the exception that ended the program; empty without one
    line: Line | None = None  # the line of the user's program that raised the exception
    ended_at: float = 0.0  # the time of the end, as time.monotonic() of the rank's host


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFindings:
    """The findings of a single rank."""

    rank: int  # the number of the rank
    races: tuple[FoundRace, ...] = ()  # each race once
    sources: tuple[WatchedSource, ...] = ()  # all sources, also those that were off
    amount: Amount = Amount()  # how much was watched
    end: ProgramEnd | None = None  # the end of the program; None if the program was killed or still runs

    def write(self, directory: Path) -> None:
        """Write the findings into a file in ``directory``, completely or not at all."""
        # Import it here: a verification uses this module too, and its ranks' interpreter can be without msgspec.
        import msgspec

        part = directory / f".rank-{self.rank}.json"
        part.write_bytes(msgspec.json.encode(self))
        part.replace(directory / f"rank-{self.rank}.json")


def read_findings(directory: Path) -> list[RankFindings]:
    """Return the findings of all ranks that wrote some into ``directory``, sorted by rank."""
    import msgspec

    findings = [msgspec.json.decode(path.read_bytes(), type=RankFindings) for path in directory.glob("rank-*.json")]
    return sorted(findings, key=lambda each: each.rank)
