"""Counts the actions that a watch judges, and the time for judging."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from nccl_bench.audit.order.actions import Action, WorkLaunched
from nccl_bench.audit.order.races import Race


class Tally:
    """The actions that an order takes."""

    def __init__(self, take: Callable[[Action], Sequence[Race]]) -> None:
        self._take = take
        self.actions = 0  # all actions
        self.works = 0  # operators, kernels and collectives
        self.collectives: Counter[str] = Counter()  # the number of calls of each collective
        self.races = 0  # the number of races, each counted once by its order
        self.judging_s = 0.0  # the time that the order took, in seconds

    def take_by(self, take: Callable[[Action], Sequence[Race]]) -> None:
        """Pass later actions to ``take``, the method of another order."""
        self._take = take

    def take(self, action: Action) -> Sequence[Race]:
        """Count ``action``, and pass it to the order."""
        started = time.perf_counter()
        races = self._take(action)
        self.actions += 1
        self.races += len(races)
        if isinstance(action, WorkLaunched):
            self.works += 1
            if action.work.is_collective:
                self.collectives[action.work.name] += 1
        self.judging_s += time.perf_counter() - started
        return races
