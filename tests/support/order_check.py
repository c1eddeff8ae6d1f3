"""Compare what the order reports about a program with the search over all legal orders."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from nccl_bench.audit.order.order import Order
from nccl_bench.audit.order.races import Access, Race, RaceKind
from tests.support.order_programs import Step
from tests.support.order_search import Pair, Search


def differences(steps: Sequence[Step], seed: int = 0) -> Iterator[str]:
    """Yield in words what the order reports and the search does not, and the other way round."""
    expected = Search(steps).pairs
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
    # With waits that are assumed after a race, the same step races first, and no race is false.
    assumed = reported_pairs(steps, Order())
    if assumed.keys() - expected.keys():
        yield f"false with assumed waits: {assumed.keys() - expected.keys()}"
    if min((second for _, second in assumed), default=None) != min((second for _, second in expected), default=None):
        yield f"first race: {sorted(assumed)} of {sorted(expected)}"


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
