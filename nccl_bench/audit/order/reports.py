"""Collects each race once: its kind, the missing order, and how often it occurred."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace

from nccl_bench.audit.order.blocks import Blocks
from nccl_bench.audit.order.history import Moment
from nccl_bench.audit.order.races import Access, AccessMode, Missing, Race, RaceKind
from nccl_bench.audit.order.world import Conflict


class Reports:
    """The races of one process."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._races: dict[Hashable, Race] = {}

    @property
    def races(self) -> tuple[Race, ...]:
        """Return each race, the race that was found first before the others."""
        return tuple(self._races.values())

    def add(self, conflicts: Iterable[Conflict]) -> tuple[Race, ...]:
        """Add the conflicts of one action, and return the races that are new."""
        new: list[Race] = []
        seen: set[Moment] = set()
        for conflict in conflicts:
            if conflict.old.moment in seen:
                continue  # two pieces of work are one race, even with several ranges
            seen.add(conflict.old.moment)
            race = self._race(conflict)
            known = self._races.get(race.identity)
            self._races[race.identity] = race if known is None else replace(known, count=known.count + 1)
            if known is None:
                new.append(race)
        return tuple(new)

    def _race(self, conflict: Conflict) -> Race:
        old, new, overlap = conflict.old, conflict.new, conflict.overlap
        first, second = old.access(overlap.address), new.access(overlap.address)
        block = self._blocks.at(overlap.address)
        freed = conflict.freed
        changes_owner = second.mode is AccessMode.HAND_OUT
        if not changes_owner and block is not None and old.moment.time <= block.time:
            changes_owner, freed = True, block.replaced
        if conflict.only_host_speed:
            kind = RaceKind.HOST_SPEED
        elif changes_owner:
            kind = RaceKind.MEMORY
        elif first.stream is None or second.stream is None:
            kind = RaceKind.HOST_SPEED
        else:
            kind = RaceKind.KERNELS
        return Race(
            kind=kind,
            missing=_missing(conflict, first, second),
            first=first,
            second=second,
            overlap=overlap,
            freed=freed,
        )


def _missing(conflict: Conflict, first: Access, second: Access) -> Missing:
    """Return the order that is missing before the second access of a conflict."""
    if conflict.old.moment.lane.stream is None or first.stream is None:
        return Missing.SIGNAL
    if second.stream is None:
        return Missing.HOST_WAIT
    if second.mode is AccessMode.HAND_OUT:
        return Missing.RECORD_STREAM
    # A collective counts as work of a side stream. Without a collective, the default stream is the main stream.
    to_side, to_main = second.work.is_collective, first.work.is_collective
    if to_side == to_main:
        to_side, to_main = first.stream.is_default, second.stream.is_default
    if to_side == to_main:
        return Missing.WAIT
    return Missing.FORK if to_side else Missing.JOIN
