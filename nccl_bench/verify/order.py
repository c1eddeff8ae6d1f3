"""The probe ``order``, which decides by construction: it looks at who waits for whom, and at no result.

The other probes find a race only if calls happen to overlap. This probe finds a missing wait in every run, so it also
finds one wrong call among a hundred.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import torch

from nccl_bench.audit import Watch, watch
from nccl_bench.audit.order.races import Access, Race
from nccl_bench.audit.sources.stacks import Frame, Stack
from nccl_bench.catalog.probes import DETECTOR, Place
from nccl_bench.verify import outcomes
from nccl_bench.verify.exchanges import Exchange
from nccl_bench.verify.rig import Rig, Trial

# The fewest calls of an arm with small messages, and the calls of one trial with large messages, which take longer.
SMALL_CALLS = 120
LARGE_CALLS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Half:
    """A half of the order of a call."""

    name: str  # the half: fork or join
    text: str  # what nothing orders if a call lacks this half


_FORK = _Half(name="fork", text="nothing orders the collective after the write of its input")
_JOIN = _Half(name="join", text="nothing orders a copy of the output after the collective")


def order(rig: Rig) -> None:
    """Watch calls of every exchange at every place, and look for calls without a fork or a join."""
    # A watch does not see a function that a library fetched earlier. So the arm is made after the watch begins.
    with watch() as current_watch:
        made = rig.exchanges()
        small = min(rig.device_spec.probe_sizes)
        trials = len(Place) * sum(exchange.size_bytes == small for exchange in made)
        watching = _Watching(watch=current_watch, calls_by_size={small: ceil(SMALL_CALLS / max(trials, 1))})
        rig.try_each(watching.examine, made, both_modes=True)
        seen = rig.control.sum([watching.collectives + watching.failures])[0]
    if rig.outcomes and not seen and rig.arm_probe.arm != DETECTOR:
        rig.outcomes.clear()
        rig.reason_not_applicable = "the audit sees no collective in the calls of this arm, so it cannot judge them"


@dataclass(kw_only=True)
class _Watching:
    """The watch over all trials."""

    watch: Watch  # the watch, with the races so far
    calls_by_size: Mapping[int, int]  # message size in bytes -> the calls of a trial, for other sizes LARGE_CALLS
    collectives: int = 0  # the number of collectives that the watch has seen in trials
    failures: int = 0  # the number of trials that failed
    # Identity of a race -> the half of the order that it lacks, and the line of the user's code.
    _lacks: dict[Hashable, tuple[_Half, str]] = field(default_factory=dict)

    def examine(self, trial: Trial) -> str | None:
        """Return which half of the order calls lack; ``None`` if every call has both."""
        exchange, streams, rig = trial.exchange, trial.streams, trial.rig
        copy = torch.empty_like(exchange.output)
        streams.synchronize()
        before, seen = self._count_races(), self.watch.tally.collectives.total()
        calls = self.calls_by_size.get(exchange.size_bytes, LARGE_CALLS)
        for number in range(calls):
            streams.submit(exchange.input.fill_, number)
            trial.call()
            streams.submit(copy.copy_, exchange.output)
        streams.synchronize()
        new = self._count_races() - before
        self.collectives += self.watch.tally.collectives.total() - seen
        texts = []
        lacks = dict.fromkeys((_FORK, _JOIN), 0)
        for half in lacks:
            of_half = {key: count for key, count in new.items() if key[0] is half}
            if of_half:
                lacks[half] = min(max(of_half.values()), calls)
                line = next(filter(None, (line for _, line, _ in of_half)), "")
                texts.append(f"{half.text}: no {half.name} in {lacks[half]} of {calls} calls{line}")
        rig.watched_calls += calls
        rig.unforked_calls += lacks[_FORK]
        rig.unjoined_calls += lacks[_JOIN]
        self.failures += bool(texts)
        return outcomes.Race("; ".join(texts)) if texts else None

    def _count_races(self) -> Counter[tuple[_Half, str, Hashable]]:
        """Return how often each race occurred so far, by the missing half and the line of the user's code."""
        counts: Counter[tuple[_Half, str, Hashable]] = Counter()
        for race in self.watch.races:
            # Reading a stack takes longer than the rest of a trial, so each race is described once.
            if race.identity not in self._lacks:
                self._lacks[race.identity] = _describe_lack(race)
            counts[*self._lacks[race.identity], race.identity] = race.count
        return counts


def _describe_lack(race: Race) -> tuple[_Half, str]:
    """Return the half of the order that a race lacks, and the line of the user's code."""
    # If the call made the second access, the call began too early: it lacks the fork.
    half = _FORK if _frames_of_call(race.second) else _JOIN
    return half, _user_line(race.second) or _user_line(race.first)


def _frames_of_call(access: Access) -> Sequence[Frame]:
    """Return the frames of the arm's call that made an access, the innermost first; empty if the probe made it."""
    frames = access.work.where.frames if isinstance(access.work.where, Stack) else ()
    for number, frame in enumerate(frames):
        if Exchange.is_call(frame.path, frame.function):
            return frames[: number + 1]
    return ()


def _user_line(access: Access) -> str:
    """Return the line of the user's code that made a call; empty if no code of the user did."""
    own = next((frame for frame in _frames_of_call(access) if not frame.is_folded), None)
    return "" if own is None else f" ({Path(own.path).name}:{own.line} in {own.function})"
