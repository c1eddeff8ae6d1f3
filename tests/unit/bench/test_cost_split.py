"""The parts of a call are measured alone, and a part that is made slow is the one that is slow."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch.distributed as dist

from nccl_bench.arms import ordering
from nccl_bench.catalog.timings import Timing
from nccl_bench.communicators.protocol import Operation
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.config.run import resolve
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.cost_split import CostSplit
from nccl_bench.records.schema import Samples
from tests.support.communicators import nccl_device
from tests.support.fake_nccl import FakeNccl
from tests.support.one_rank_run import run_on_one_rank

# Far longer than any part over the fake library.
DELAY_S = 100e-6
OPTIONS: dict[str, Any] = {"sizes": "1K", "timings": "gated,enqueue", "rounds": 1, "max_rounds": 1, "ops_per_batch": 4}


def splits(group: dist.ProcessGroup, fake: FakeNccl, **options: Any) -> dict[tuple[str, Timing], CostSplit | None]:
    config = resolve("cuda", {**OPTIONS, "dtypes": "float32", **options})
    _, lines = run_on_one_rank(config, group, nccl_device(fake.path), Progress(None, 0, 0))
    return {(line.arm, line.timing): line.cost for line in lines if isinstance(line, Samples)}


def test_each_arm_has_the_times_of_its_own_parts(one_rank: dist.ProcessGroup, fake: FakeNccl) -> None:
    by_cell = splits(one_rank, fake, arms="stream-free,dedicated-stream", cost_split=True)
    assert {timing for (_, timing), split in by_cell.items() if split} == {Timing.ENQUEUE}
    known = {
        arm: {name for name in ("stream_us", "fork_us", "call_us", "join_us") if getattr(split, name) is not None}
        for (arm, timing), split in by_cell.items()
        if timing is Timing.ENQUEUE
    }
    of_dedicated = {"stream_us", "fork_us", "call_us", "join_us"}
    assert known == {
        "stream-free": {"stream_us", "call_us"},
        "dedicated-stream": of_dedicated,
        "dedicated-stream:twin": of_dedicated,
    }


def test_without_the_option_nothing_is_split(one_rank: dist.ProcessGroup, fake: FakeNccl) -> None:
    assert {*splits(one_rank, fake, arms="stream-free").values()} == {None}


def wait() -> None:
    """Keep the thread busy."""
    end = time.perf_counter() + DELAY_S
    while time.perf_counter() < end:
        pass


@pytest.mark.parametrize("slow", ["stream", "fork", "call", "join"])
def test_a_slow_part_is_slow_in_its_own_column_only(
    slow: str, one_rank: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delayed(operation: Operation) -> Operation:
        return lambda: (wait(), operation())

    # The gates are as long as calls without a delay need.
    monkeypatch.setattr("nccl_bench.bench.cost_split._GATE_FACTOR", 50)
    own_parts, own_order = StreamFreeCommunicator.cost_parts, ordering.fork_join_parts
    monkeypatch.setattr(
        "nccl_bench.communicators.connected.ConnectedCommunicator.cost_parts",
        lambda self, operation: {
            part: [delayed(each) if part == slow else each for each in operations]
            for part, operations in own_parts(self, operation).items()
        },
    )
    monkeypatch.setattr(
        "nccl_bench.arms.arm.fork_join_parts",
        lambda *args: {
            part: delayed(each) if part == slow in ("fork", "join") else each for part, each in own_order(*args).items()
        },
    )
    split = splits(one_rank, fake, arms="dedicated-stream", cost_split=True)["dedicated-stream", Timing.ENQUEUE]
    assert split is not None
    times = {name: getattr(split, f"{name}_us") for name in ("stream", "fork", "call", "join")}
    assert max(times, key=lambda name: times[name]) == slow
    assert times[slow] >= DELAY_S * 1e6 / 2
