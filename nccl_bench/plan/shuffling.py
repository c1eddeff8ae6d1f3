"""Random orders that are the same in every process: the order of arms, and the order of cases in each launch."""

import random
from collections.abc import Collection, Sequence
from typing import TypeVar

_Item = TypeVar("_Item")


def shuffled(items: Sequence[_Item], seed: int, *where: object) -> list[_Item]:
    """Return ``items`` in a random order. Every rank gets the same order for the same ``seed`` and ``where``."""
    order = list(items)
    random.Random("/".join(map(str, (seed, *where)))).shuffle(order)
    return order


def cases_of_launches(
    cases: int, launches: int, seed: int, done: Collection[tuple[int, int]] = ()
) -> tuple[tuple[int, ...], ...]:
    """Return for each launch the indices of its cases, in the order of their measurement.

    The first launch has the order of the plan, and every later launch has a random order. So what a case inherits
    from the case before it differs from launch to launch. ``done`` has the (index, launch) pairs to leave out.
    """
    orders = [list(range(cases))]
    orders += [shuffled(orders[0], seed, "cases", launch) for launch in range(2, launches + 1)]
    return tuple(
        tuple(index for index in order if (index, launch) not in done) for launch, order in enumerate(orders, start=1)
    )
