"""Whose turn it is: arms in processes of their own share their devices with the others, and are measured in turn."""

from __future__ import annotations

from collections.abc import Mapping

from nccl_bench.ranks.joining import Ranks


class Turns:
    """``process_set_of`` says in which of the ``ranks``' process_sets each arm is."""

    def __init__(self, ranks: Ranks, process_set_of: Mapping[str, int]) -> None:
        self._ranks = ranks
        self._world_of = process_set_of
        self._at_work = -1

    def take(self, name: str) -> bool:
        """Whether the arm ``name`` is of this process; returns once no other one is at work. Collective."""
        index = self._world_of[name]
        if index != self._at_work:
            self._ranks.wait_for_other_sets()
            self._at_work = index
        return index == self._ranks.set_index
