"""A run with the arms before and after, and with stream-free."""

from __future__ import annotations

from typing import Any

from nccl_bench.records.schema import Line
from tests.support.synthetic_runs import case, samples

USER_ARMS = [{"name": name, "target": "engine.pynccl:PyNccl", "tree": name} for name in ("before", "after")]
RUN: dict[str, Any] = {"baseline": "before", "arms": ["stream-free", "before", "after"], "user_arms": USER_ARMS}


def measured(arm: str, time_us: float, size: int = 8, **changes: Any) -> Line:
    """Return 25 times of ``arm``, which vary by 0.2 %."""
    times = tuple(time_us * (1 + 0.001 * (number % 3)) for number in range(25))
    return samples(arm, case=case(size), samples_us=times, **changes)


def before_and_after() -> list[Line]:
    """Return three arms at two sizes: after is faster than before at 8 B and equal at 16 B; stream-free is slower."""
    lines = []
    for size, after_us in ((8, 8.0), (16, 10.0)):
        times = {"stream-free": 20.0, "before": 10.0, "before:twin": 10.0, "after": after_us}
        lines += [measured(arm, time_us, size) for arm, time_us in times.items()]
    return lines
