"""The walk over cases, with one rank in this process: the check, the buffers, the launch queue, refused cases."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch.distributed as dist

from nccl_bench.arms import arm as arms
from nccl_bench.bench import runner
from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.measure import KeptBatches
from nccl_bench.bench.per_iteration import PER_ITERATION_OPERATIONS, measure_per_iteration
from nccl_bench.bench.runner import Runner
from nccl_bench.bench.schedule import Pilot, make_schedule
from nccl_bench.bench.timing import Clock
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.run import RunConfig, resolve
from nccl_bench.plan.cases import make_plan
from nccl_bench.plan.time import deadline_s, estimate_case_s
from nccl_bench.ranks.control import Reduced
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.schema import Line, Samples, Skipped
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.device import Device, open_device
from tests.support.one_rank_run import MemoryStore, fork_without_join, run_on_one_rank


def measured(one_rank: dist.ProcessGroup, **options: Any) -> tuple[RunConfig, Progress, list[Line]]:
    """Run one rank; return the configuration, the progress and the lines."""
    config = resolve("cpu", {"sizes": "4K", "rounds": 1, "max_rounds": 1, "timings": "eager", **options})
    progress = Progress(None, 0, 0)
    _, lines = run_on_one_rank(config, one_rank, open_device("cpu", 0), progress)
    return config, progress, lines


def test_the_check_catches_an_arm_that_does_not_join(
    one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"arms": "dedicated-stream", "placements": "out-of-place"}
    _, _, (line,) = measured(one_rank, **options)
    assert isinstance(line, Samples)
    assert line.wrong == 0
    monkeypatch.setattr(arms, "fork_join", fork_without_join)
    _, _, (line,) = measured(one_rank, **options)
    assert isinstance(line, Samples)
    assert line.wrong is not None
    assert line.wrong > 0


def test_the_buffers_of_a_case_are_gone_before_the_memory_of_the_next_case_is_planned(
    one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[CaseBuffers]] = []
    alive_at_fit: list[int] = []

    def counted(*arguments: Any) -> CaseBuffers:
        buffers = CaseBuffers(*arguments)
        made.append(weakref.ref(buffers))
        return buffers

    fit = Runner._fit

    def looking(self: Runner, planned: Any) -> Any:
        alive_at_fit.append(sum(buffers() is not None for buffers in made))
        return fit(self, planned)

    monkeypatch.setattr(runner, "CaseBuffers", counted)
    monkeypatch.setattr(Runner, "_fit", looking)
    measured(one_rank, sizes="1K,2K,4K", arms="stream-free")
    assert len(made) == 3
    assert alive_at_fit == [0, 0, 0]


def test_the_deadline_of_a_case_is_its_estimate_and_the_timeout(one_rank: dist.ProcessGroup) -> None:
    config, progress, _ = measured(one_rank, arms="stream-free", timeout_s=50)
    (planned,) = make_plan(config, 1).cases
    expected = estimate_case_s(config, planned, config.rounds)
    assert expected > 0
    assert progress.position.timeout_s == deadline_s(config, planned) == pytest.approx(50 + 2 * expected)


def test_the_events_between_operations_count_as_entries_of_the_launch_queue(
    one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    per_iteration = Clock.per_iteration

    def counted(self: Any, calls: Any, gate_s: float | None) -> Any:
        lengths.append(len(calls))
        return per_iteration(self, calls, gate_s)

    monkeypatch.setattr(Clock, "per_iteration", counted)
    # 500 entries: 250 operations of one entry and as many events.
    for operations in (100, 500):
        measured(one_rank, arms="stream-free", per_iteration=True, ops_per_batch=operations)
    assert set(lengths) == {100, 250}


@pytest.mark.parametrize("nvtx", [True, False])
def test_with_nvtx_each_batch_lies_in_a_range_with_its_case_timing_and_arm(
    nvtx: bool, one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ranges: list[str] = []
    batches: list[list[str]] = []

    @contextmanager
    def marked(_self: CpuStreams, name: str) -> Iterator[None]:
        open_ranges.append(name)
        yield
        open_ranges.pop()

    batch = Clock.batch

    def noted(self: Clock, *arguments: Any, **options: Any) -> Any:
        batches.append([*open_ranges])
        return batch(self, *arguments, **options)

    monkeypatch.setattr(CpuStreams, "marked", marked)
    monkeypatch.setattr(Clock, "batch", noted)
    config = resolve("cpu", {"sizes": "4K", "rounds": 2, "max_rounds": 2, "timings": "eager", "arms": "stream-free"})
    config = replace(config, nvtx=nvtx)
    run_on_one_rank(config, one_rank, open_device("cpu", 0), Progress(None, 0, 0))
    assert batches == [["all_reduce bfloat16 sum 4096 B eager stream-free"] if nvtx else []] * 2
    assert open_ranges == []


def test_an_arm_of_another_process_set_has_percentiles() -> None:
    config = resolve("cpu", {"per_iteration": True, "user_arms": [{"name": "mine", "target": "mine.py:Mine"}]})
    arms = SimpleNamespace(present=lambda _names: [], visit=lambda _names, _phase: ())
    # The control group has the maximum over the ranks: times of the other process set, and no gate that opened early.
    control = SimpleNamespace(maximum=lambda values: [2.0] * (len(values) - 1) + [0.0])
    context = cast(CaseContext, SimpleNamespace(config=config, arms=arms, control=control, uneven_ranks=0))
    schedule = make_schedule(config, {"mine": Pilot(device_us=2.0, enqueue_us=1.0)}, 4)
    batch = Reduced(slowest_us=2.0, fastest_us=1.0, slowest_rank=0, valid=True, began_s=0.0)
    kept = {"mine": KeptBatches(by_round={0: batch})}
    (percentiles,) = measure_per_iteration(context, ["mine"], Timing.GATED, schedule, kept).values()
    assert (percentiles.p50_us, percentiles.operations >= PER_ITERATION_OPERATIONS) == (2.0, True)


def test_a_refused_case_is_skipped_with_the_reason(
    one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses_small(_device: Device, case: Case) -> str | None:
        return "too small for this machine" if case.size_bytes < 4096 else None

    monkeypatch.setattr(runner, "refusal", refuses_small)
    _, _, lines = measured(one_rank, sizes="1K,4K", arms="stream-free")
    skipped, kept = lines
    assert isinstance(skipped, Skipped)
    assert (skipped.case.size_bytes, skipped.reason) == (1024, "too small for this machine")
    assert isinstance(kept, Samples)


def test_the_lines_of_each_case_are_on_the_disk_before_the_next_case(
    one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(MemoryStore, "sync", lambda store: synced.append(len(store.lines)))
    measured(one_rank, arms="torch", sizes="1K,2K", timings="eager,gated")
    assert synced == [2, 4]
