"""Joins the findings of all ranks. A race that several ranks found is one race."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from nccl_bench.audit.findings.record import FoundRace, RankFindings, WatchedSource
from nccl_bench.audit.findings.suppressions import Suppression
from nccl_bench.audit.order.races import RaceKind
from nccl_bench.errors import ExitCode


class Outcome(StrEnum):
    """The answers that an audit can have, the most important first."""

    RACES = "races"
    HANG = "hang"  # no race was found before the program hung
    FAILED = "failed"  # no race was found before the program failed
    BLIND = "blind"  # no collective was seen, so nothing important was checked
    NONE = "no race"


_EXIT_CODES = {
    Outcome.RACES: ExitCode.RACE,
    Outcome.HANG: ExitCode.HANG,
    Outcome.FAILED: ExitCode.SETUP,
    Outcome.BLIND: ExitCode.INCONCLUSIVE,
    Outcome.NONE: ExitCode.OK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppressed:
    """A race that a line of the suppressions accepts."""

    race: FoundRace  # the race
    by: Suppression  # the first line that matches


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The findings of an audit of a program, on all of its ranks."""

    program: str  # the command line of the program
    world_size: int  # the number of ranks that were watched
    races: tuple[FoundRace, ...] = ()  # the races that no suppression accepts, the worst first
    suppressed: tuple[Suppressed, ...] = ()  # the races that a suppression accepts
    # The suppressions that suppressed no race. If several match a race, only the first one suppresses it.
    unused: tuple[Suppression, ...] = ()
    ranks: tuple[RankFindings, ...] = ()  # the findings of each rank that reported some
    hang: str = ""  # the message about a hang; empty without one
    failure: str = ""  # the message about a program that failed; empty if it ended well

    @property
    def outcome(self) -> Outcome:
        """The answer of the audit."""
        if self.races:
            return Outcome.RACES
        if self.hang:
            return Outcome.HANG
        if self.failure:
            return Outcome.FAILED
        return Outcome.NONE if self.collectives and len(self.ranks) == self.world_size else Outcome.BLIND

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the command."""
        return _EXIT_CODES[self.outcome]

    @property
    def collectives(self) -> Counter[str]:
        """The number of calls of each collective, on all ranks."""
        return sum((Counter(each.amount.collectives) for each in self.ranks), Counter())

    @property
    def works(self) -> int:
        """The number of operators, kernels and collectives, on all ranks."""
        return sum(each.amount.works for each in self.ranks)

    @property
    def sources(self) -> tuple[WatchedSource, ...]:
        """The sources of the first rank. All ranks run the same program, so all have these sources."""
        return self.ranks[0].sources if self.ranks else ()


def join_ranks(
    program: str,
    world_size: int,
    ranks: Sequence[RankFindings],
    suppressions: Sequence[Suppression] = (),
    *,
    hang: str = "",
    failure: str = "",
) -> Audit:
    """Return the findings of ``ranks`` as one audit."""
    races, suppressed = split_suppressed(join_races(race for each in ranks for race in each.races), suppressions)
    used = {each.by for each in suppressed}
    return Audit(
        program=program,
        world_size=world_size,
        races=races,
        suppressed=suppressed,
        unused=tuple(each for each in suppressions if each not in used),
        ranks=tuple(ranks),
        hang=hang,
        failure=failure,
    )


def split_suppressed(
    races: Iterable[FoundRace], suppressions: Sequence[Suppression]
) -> tuple[tuple[FoundRace, ...], tuple[Suppressed, ...]]:
    """Return the races that no suppression accepts, and the races that a suppression accepts."""
    accepted = [(race, next((each for each in suppressions if each.matches(race)), None)) for race in races]
    return (
        tuple(race for race, by in accepted if by is None),
        tuple(Suppressed(race=race, by=by) for race, by in accepted if by is not None),
    )


def join_races(races: Iterable[FoundRace]) -> list[FoundRace]:
    """Return each race once, with the counts and ranks of all its occurrences together; the worst first."""
    joined: dict[object, FoundRace] = {}
    for race in races:
        known = joined.get(race.identity)
        if known is None:
            joined[race.identity] = race
        else:
            ranks = tuple(sorted({*known.ranks, *race.ranks}))
            joined[race.identity] = replace(known, count=known.count + race.count, ranks=ranks)
    kinds = list(RaceKind)
    return sorted(joined.values(), key=lambda race: kinds.index(race.kind))
