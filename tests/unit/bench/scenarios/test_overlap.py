"""The scenario overlap: the product beside the collective, its shape, and the times of its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.bench.scenarios import overlap_calls
from nccl_bench.bench.scenarios.product import product, shape_that_takes
from nccl_bench.config.product import Shape, product_bytes
from nccl_bench.config.run import resolve
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.schema import Line, Samples, Skipped, Status
from nccl_bench.streams import cpu
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.device import open_device
from tests.support.one_rank_run import run_on_one_rank

FEW = {
    "scenario": "overlap",
    "sizes": "1K,4K",
    "dtypes": "float32",
    "rounds": 3,
    "max_rounds": 3,
    "ops_per_batch": 4,
    "timings": "eager,gated,enqueue",
    "arms": "stream-free,dedicated-stream,torch-async",
}
PLENTY = 2**40


def measured(group: dist.ProcessGroup, **options: Any) -> tuple[Any, list[Line]]:
    """Measure an overlap with this process as the only rank; return the facts of the record and its lines."""
    record, lines = run_on_one_rank(resolve("cpu", FEW | options), group, open_device("cpu", 0), Progress(None, 0, 0))
    return record, lines


def samples(lines: list[Line]) -> list[Samples]:
    return [line for line in lines if isinstance(line, Samples)]


def test_every_arm_has_the_times_of_all_parts_in_the_timings_of_the_device(one_rank: dist.ProcessGroup) -> None:
    _, lines = measured(one_rank, product="32,32,32")
    # Two sizes, three timings, and three arms with a twin.
    assert len(samples(lines)) == 2 * 3 * 4
    for line in samples(lines):
        assert (line.status, line.case.collective) == (Status.OK, "all_gather")
        if line.timing == "enqueue":
            assert line.parts is None
            continue
        parts = line.parts
        assert parts is not None
        assert parts.product == "32x32x32"
        assert len(parts.product_us) == len(parts.together_us) == len(parts.collective_in_sequence_us) == 3
        # The stream of torch's asynchronous calls is hidden.
        assert bool(parts.collective_together_us) is (line.arm != "torch-async")


def test_the_result_of_a_collective_beside_a_product_is_checked(
    one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap_calls, "_together", lambda fork, collective, product, join: product)
    _, lines = measured(one_rank, product="32,32,32", arms="stream-free", placements="out-of-place")
    assert {line.status for line in samples(lines)} == {Status.WRONG}


def test_a_chosen_product_is_recorded_and_used_again_in_later_launches(one_rank: dist.ProcessGroup) -> None:
    record, lines = measured(one_rank, timings="eager", arms="stream-free")
    chosen = {line.case.label: line.parts.product for line in samples(lines) if line.parts}
    assert len(chosen) == 2
    assert {label: "x".join(map(str, shape)) for label, shape in record.products.items()} == chosen


def test_a_product_that_does_not_fit_is_named_as_what_to_make_smaller(one_rank: dist.ProcessGroup) -> None:
    _, lines = measured(one_rank, product="1000000,1000000,1000000", timings="eager", arms="stream-free")
    assert len(lines) == 2
    for line in lines:
        assert isinstance(line, Skipped)
        assert line.reason.endswith("use smaller --sizes or a smaller --product")


def test_a_product_is_that_of_its_matrices_in_the_order_of_the_stream() -> None:
    streams, caller = CpuStreams(), cpu.Stream()
    with streams.stream(caller):
        operation = product((3, 5, 7), streams)
        operation()
    caller.synchronize()
    (call,) = operation.args  # type: ignore[attr-defined]
    left, right, output = *call.args, call.keywords["out"]
    assert (left.shape, right.shape) == ((3, 7), (7, 5))
    torch.testing.assert_close(output, left @ right)


def linear(us_per_million: float, floor_us: float = 0.0) -> Callable[[Shape], float]:
    return lambda shape: floor_us + us_per_million * shape[0] * shape[1] * shape[2] / 1e6


@pytest.mark.parametrize("target_us", [10.0, 300.0, 5_000.0, 100_000.0])
def test_a_chosen_product_takes_about_as_long_as_the_collective(target_us: float) -> None:
    time_us = linear(0.01, floor_us=4.0)
    assert time_us(shape_that_takes(target_us, time_us, PLENTY)) == pytest.approx(target_us, rel=0.35)


def test_a_chosen_product_stays_within_its_memory_and_is_never_smaller_than_the_smallest() -> None:
    shape = shape_that_takes(1e9, linear(0.01), 2**20)
    assert product_bytes(shape) <= 2**20
    assert shape_that_takes(0.001, linear(1.0), PLENTY) == (64, 64, 64)
    assert shape_that_takes(1e9, linear(0.01), 0) == (64, 64, 64)
