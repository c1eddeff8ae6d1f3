"""Compare what the order reports about a program with the search over all legal orders."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from nccl_bench.audit.order.actions import (
    EventRecorded,
    GraphReplayed,
    HostAccessed,
    MemoryAllocated,
    StreamWaited,
    WorkLaunched,
)
from nccl_bench.audit.order.order import Order
from nccl_bench.audit.order.places import Stream, StreamKind
from nccl_bench.audit.order.races import Access, Race, RaceKind
from tests.support.order_programs import Step
from tests.support.order_search import Pair, Search

NEW_EVENT = 1_000_000  # no program has events with such numbers
NO_STEP = -1
HOST = Stream(device=-1, handle=0, kind=StreamKind.INLINE)  # an event that a thread records here marks what it has done


def differences(steps: Sequence[Step], seed: int = 0, search: Search | None = None) -> Iterator[str]:
    """Yield in words what the order reports and the search does not, and the other way round."""
    expected = (search or Search(steps)).pairs
    for forgets in (False, True):
        reported = reported_pairs(steps, Order(every_pair=True), random.Random(seed) if forgets else None)
        with_forgetting = " with forgetting" if forgets else ""
        for pair in expected.keys() - reported.keys():
            yield f"missed{with_forgetting}: {pair} {expected[pair]}"
        for pair in reported.keys() - expected.keys():
            yield f"false{with_forgetting}: {pair} {reported[pair]}"
        for pair in reported.keys() & expected.keys():
            if reported[pair] not in expected[pair]:
                yield f"kind{with_forgetting}: {pair} {reported[pair]} instead of {expected[pair]}"
    # Every fourth program, because it takes several searches.
    if seed % 4 == 0:
        assumed = reported_pairs(steps, Order())
        if assumed.keys() != (wanted := pairs_with_waits(steps)):
            yield f"with assumed waits: {sorted(assumed)} instead of {sorted(wanted)}"


def pairs_with_waits(steps: Sequence[Step]) -> set[Pair]:
    """Return the races that are left if the wait that the first race misses is put in, again and again."""
    pairs: set[Pair] = set()
    numbered = list(enumerate(steps))  # the steps with their numbers in the program without waits
    while races := Search([step for _, step in numbered]).pairs:
        # The first step that races, and the newest step that it races with.
        second = min(second for _, second in races)
        first = max(earlier for earlier, later in races if later == second)
        pairs.add((numbered[first][0], numbered[second][0]))
        event = NEW_EVENT + len(pairs)
        record, wait = _record_after(numbered[first][1], event), _wait_before(numbered[second][1], event)
        # Work and allocations have their step's number; the waits have none.
        numbered.insert(second, (NO_STEP, wait))
        numbered.insert(first + 1, (NO_STEP, record))
    return pairs


def _record_after(step: Step, event: int) -> Step:
    action = step.action
    assert isinstance(action, WorkLaunched | HostAccessed | GraphReplayed)
    stream = HOST if isinstance(action, HostAccessed) else action.stream
    return Step(EventRecorded(thread=action.thread, event=event, stream=stream), step.capture)


def _wait_before(step: Step, event: int) -> Step:
    action = step.action
    assert isinstance(action, WorkLaunched | HostAccessed | GraphReplayed | MemoryAllocated)
    stream = HOST if isinstance(action, HostAccessed) else action.stream
    return Step(StreamWaited(thread=action.thread, event=event, stream=stream), step.capture)


def reported_pairs(steps: Sequence[Step], order: Order, forgets: random.Random | None = None) -> dict[Pair, RaceKind]:
    """Return the pairs of steps that ``order`` reports, with their kinds."""
    races: list[Race] = []
    for step in steps:
        races += order.take(step.action)
        if forgets is not None and forgets.random() < 0.5:
            order.forget()
    return {(_step(race.first), _step(race.second)): race.kind for race in races}


def _step(access: Access) -> int:
    number = access.work.where if access.replayed is None else access.replayed
    assert isinstance(number, int)
    return number
