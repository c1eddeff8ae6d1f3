"""The control of one rank of two, of which the other one is only pretended."""

from __future__ import annotations

from collections.abc import Sequence

from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.control import Control

# The arm and the probe of a rig that a test does not choose.
CELL = ArmProbe(arm="stream-free", probe="producer")


class TwoRanks(Control):
    """This process as ``rank`` of two; ``other_values`` are the values of the other rank in a sum."""

    def __init__(self, rank: int, other_values: Sequence[int] = ()) -> None:
        self.rank, self.world_size = rank, 2
        self._other_values = other_values

    def barrier(self) -> None:
        """Return at once: the other rank has always come."""

    def sum(self, values: Sequence[int]) -> list[int]:
        return [mine + other for mine, other in zip(values, self._other_values, strict=True)]

    def first_message(self, message: str | None) -> tuple[int, str] | None:
        # If this rank has no message, the other one has.
        return (self.rank, message) if message is not None else (0, "the other rank's")
