"""The one table of what is measured: collectives, data types and reductions. No torch.

Everything that varies by collective is a field here, so choices, dispatch, bandwidth and the check never branch on a
collective's name. Sizes, counts and bus factors are nccl-tests' (src/*.cu, ``*GetCollByteCount`` and ``*GetBw``;
doc/PERFORMANCE.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nccl_bench.catalog.collectives import COLLECTIVES, Collective, Placement, RedOp


class Scenario(StrEnum):
    """What surrounds the collective while it is timed."""

    ISOLATED = "isolated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One point of the sweep.

    ``redop`` is ``None`` where nothing is reduced and ``root`` where there is none. ``count`` is nccl-tests' count of
    one block, ``size_bytes`` the message size after its rounding.
    """

    scenario: Scenario
    collective: str
    dtype: str
    redop: RedOp | None
    placement: Placement
    root: int | None
    size_bytes: int
    count: int

    @property
    def row(self) -> Collective:
        """This case's row of the table."""
        return COLLECTIVES[self.collective]

    @property
    def label(self) -> str:
        """A name for messages: enough to tell this case from every other one of a run."""
        redop = f" {self.redop}" if self.redop else ""
        return f"{self.collective} {self.dtype}{redop} {self.placement} {self.size_bytes} B"
