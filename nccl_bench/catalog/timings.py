"""The one table of what is measured: collectives, data types and reductions. No torch.

Everything that varies by collective is a field here, so choices, dispatch, bandwidth and the check never branch on a
collective's name. Sizes, counts and bus factors are nccl-tests' (src/*.cu, ``*GetCollByteCount`` and ``*GetBw``;
doc/PERFORMANCE.md).
"""

from __future__ import annotations

from enum import StrEnum


class Timing(StrEnum):
    """The four questions a timing can answer, in the order they are measured and shown."""

    EAGER = "eager"
    GATED = "gated"
    GRAPH = "graph"
    ENQUEUE = "enqueue"
