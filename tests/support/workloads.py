"""Made-up workloads, and runs that measured them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.workload import Workload, WorkloadMessage
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Line
from tests.support.synthetic_runs import case, run, samples

BASE = "dedicated-stream"
TWIN = twin_of(BASE)
# The times of a message, by its index in the workload and the arm; None if the arm has none.
Times = Callable[[int, str], Sequence[float] | None]


def message(size_bytes: int, count: int, timing: Timing = Timing.EAGER, **changes: object) -> WorkloadMessage:
    """Return an all-reduce of bfloat16 elements in a group of two ranks."""
    fields = {"collective": "all_reduce", "dtype": "bfloat16", "ranks": 2, **changes}
    return WorkloadMessage(size_bytes=size_bytes, count=count, timing=timing, **fields)  # type: ignore[arg-type]


# Two steps of a model: the same all-reduce eagerly and in graphs, and a gather.
WORKLOAD = Workload(
    messages=(
        message(4096, 8),
        message(4096, 64, Timing.GRAPH),
        message(65536, 2, collective="all_gather"),
    ),
    steps=2,
    source=("kineto-rank0.json.gz",),
)


def lines_of(workload: Workload, times_us: Times, arms: Iterable[str], **changes: Any) -> list[Line]:
    """Return the samples of a run on 2 ranks that measured ``workload``."""
    lines: list[Line] = []
    for index, each in enumerate(workload.messages):
        itemsize = DTYPES[each.dtype].itemsize
        count = COLLECTIVES[each.collective].block_count(each.size_bytes, itemsize, 2)
        of_message = case(each.size_bytes, each.collective, dtype=each.dtype, count=count)
        for arm in arms:
            if (times := times_us(index, arm)) is not None:
                fields = {"case": of_message, "samples_us": tuple(times), "world_size": 2, **changes}
                lines.append(samples(arm, each.timing, **fields))
    return lines


def workload_run(
    times_us: Times, arms: Sequence[str] = (BASE, "torch"), workload: Workload = WORKLOAD, more: Iterable[Line] = ()
) -> Run:
    """Return a run of one launch that measured ``workload`` with ``arms`` and the twin of the baseline."""
    lines = [*lines_of(workload, times_us, [*arms, *([TWIN] if len(arms) > 1 else [])]), *more]
    measured = run(lines, arms=list(arms), workload=asdict(workload))
    measured.meta["launch"].update(world_size=2, nproc=2)  # type: ignore[attr-defined]
    return measured


def steady(base_us: Sequence[float], ratio: float = 1.0, *, spread: float = 0.001, rounds: int = 20) -> Times:
    """Return times around those of the baseline in ``base_us``, and around ``ratio`` times these for other arms."""

    def times_us(index: int, arm: str) -> Sequence[float]:
        own = 1.0 if arm in (BASE, TWIN) else ratio
        places = {BASE: 0, TWIN: 1}.get(arm, 2)
        return [base_us[index] * own * (1 + spread * ((number + places) % 3 - 1)) for number in range(rounds)]

    return times_us


def without(times_us: Times, index: int, arm: str) -> Times:
    """Return ``times_us`` without those of ``arm`` in the message at ``index``."""
    return lambda at, name: None if (at, name) == (index, arm) else times_us(at, name)
