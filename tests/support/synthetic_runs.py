"""Made-up runs for the tests of records, analysis and report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.timings import Timing
from nccl_bench.plan.memory import Arena
from nccl_bench.records.lines import Lines
from nccl_bench.records.run import Run
from nccl_bench.records.scenario_times import PartTimes
from nccl_bench.records.schema import Crash, GpuState, Hang, Line, PerIteration, Samples, Status

ARMS = ("stream-free", "dedicated-stream", "torch", "torch-async")
ALL_ARMS = (*ARMS, "dedicated-stream-wait-stream", "transport", "a-user arm")
SIZES = tuple(8 * 2**step for step in range(28))
_FLOOR_US = {
    Timing.EAGER: (13.5, 35.9, 34.6, 41.2, 39.9, 9.3, 77.7),
    Timing.GATED: (8.39, 8.81, 8.64, 8.9, 9.1, 8.2, 11.1),
    Timing.GRAPH: (7.65, 12.62, 7.87, 12.9, 13.3, 7.6, 15.5),
    Timing.ENQUEUE: (9.6, 22.9, 26.3, 31.9, 44.4, 7.1, 63.9),
}


def case(size_bytes: int = 1024, collective: str = "all_reduce", **changes: Any) -> Case:
    """Return a case of bfloat16 elements."""
    row = COLLECTIVES[collective]
    fields: dict[str, Any] = {
        "scenario": Scenario.ISOLATED,
        "collective": collective,
        "dtype": "bfloat16",
        "redop": RedOp.SUM if row.reduces else None,
        "placement": row.placements[0],
        "root": 0 if row.rooted else None,
        "size_bytes": size_bytes,
        "count": size_bytes // 2,
    }
    return Case(**{**fields, **changes})


def samples(arm: str = "stream-free", timing: Timing = Timing.GATED, **changes: Any) -> Samples:
    """Return samples of three rounds whose results were right."""
    times = changes.pop("samples_us", (8.4, 8.3, 8.5))
    fields: dict[str, Any] = {
        "case": case(),
        "arm": arm,
        "timing": timing,
        "status": Status.OK,
        "world_size": 4,
        "ops_per_batch": 100,
        "rounds": tuple(range(len(times))),
        "samples_us": times,
        "fastest_rank_us": tuple(time * 0.99 for time in times),
        "slowest_rank": (2,) * len(times),
        "discarded": 0,
        "wrong": 0,
        "tolerance_ulp": 0,
        "arena": Arena(slots=8, slot_bytes=1024, regions=1),
        "per_iteration": None,
    }
    return Samples(**{**fields, **changes})


def wrong(**changes: Any) -> Samples:
    """Return samples of an arm whose outputs were wrong before timing."""
    return samples(samples_us=(), status=Status.WRONG, wrong=12, ops_per_batch=0, **changes)


def declined(**changes: Any) -> Samples:
    """Return samples of an arm that declined."""
    fields = {"status": Status.DECLINED, "wrong": None, "ops_per_batch": 0, "reason": "all_reduce returned None"}
    return samples(samples_us=(), **(fields | changes))


def imported(**changes: Any) -> Samples:
    """Return imported samples: without ranks, buffers and the tolerance of the check."""
    return samples(fastest_rank_us=(), slowest_rank=(), arena=None, tolerance_ulp=None, **changes)


def hang(**changes: Any) -> Hang:
    """Return a hang in the first case."""
    fields: dict[str, Any] = {
        "case": case(),
        "case_index": 0,
        "arm": "torch",
        "rank": 3,
        "host": "node7",
        "phase": "gated",
        "timeout_s": 120.0,
    }
    return Hang(**{**fields, **changes})


def crash(**changes: Any) -> Crash:
    """Return a crash in the first case."""
    fields: dict[str, Any] = {
        "case": case(),
        "case_index": 0,
        "arm": "torch-async",
        "rank": 1,
        "host": "node7",
        "message": "ncclSystemError",
    }
    return Crash(**{**fields, **changes})


def per_iteration() -> PerIteration:
    """Return percentiles of single operations."""
    return PerIteration(
        operations=900, min_us=10.1, p50_us=11.22, p90_us=14.8, p99_us=33.3, max_us=1234.5, cost_us=2.75
    )


def part_times(**changes: Any) -> PartTimes:
    """Return the times of parts of which half of the collective is hidden, and the product becomes a tenth slower."""
    fields: dict[str, Any] = {
        "product": "4096x4096x4096",
        "product_us": (800.0, 802.0, 798.0),
        "collective_us": (210.0, 208.0, 212.0),
        "sequence_us": (1000.0, 1002.0, 998.0),
        "together_us": (900.0, 902.0, 898.0),
        "product_in_sequence_us": (790.0, 791.0, 789.0),
        "collective_in_sequence_us": (205.0, 205.0, 205.0),
        "product_together_us": (869.0, 870.1, 867.9),
        "collective_together_us": (410.0, 410.0, 410.0),
    }
    return PartTimes(**{**fields, **changes})


def gpus(**changes: Any) -> GpuState:
    """Return the state of GPUs that ran at their highest clocks."""
    fields: dict[str, Any] = {
        "sm_clock_mhz": 1980,
        "memory_clock_mhz": 3201,
        "temperature_c": 41,
        "power_w": 310.5,
        "throttle_reasons": (),
        "throttled_share": None,
        "throttled_rank": None,
        "other_process": None,
        "other_process_rank": None,
    }
    return GpuState(**{**fields, **changes})


def sweep(
    arms: Iterable[str] = ARMS, sizes: Iterable[int] = SIZES, timings: Iterable[Timing] = Timing, **changes: Any
) -> list[Line]:
    """Return samples of every size, timing and arm, with times as on four GPUs."""
    lines: list[Line] = []
    for size_bytes in sizes:
        for timing in timings:
            for arm in arms:
                floor = _FLOOR_US[timing][ALL_ARMS.index(arm)]
                time = floor if timing is Timing.ENQUEUE else floor + size_bytes / 220_000
                spread = tuple(time * (1 + 0.001 * number) for number in range(9))
                fields = {"case": case(size_bytes), "samples_us": spread} | changes
                lines.append(samples(arm, timing, **fields))
    return lines


def meta(**config: Any) -> dict[str, Any]:
    """Return the contents of ``run.json``."""
    return {
        "schema": 1,
        "tool": "nccl-bench",
        "version": "0.1.0",
        "name": "made-up",
        "started": "2026-10-01T02:00:00+00:00",
        "finished": "2026-10-01T02:05:00+00:00",
        "status": "complete",
        "command": ["nccl-bench", "run"],
        "config": {"device": "cuda", "baseline": "dedicated-stream", "arms": list(ARMS), "check": True} | config,
        "launch": {"world_size": 4, "nproc": 4, "nnodes": 1, "mode": "torchrun"},
        "left_out": [],
        "environment": {},
        "worker": {"loop_cost_us": 0.041},
    }


def run(lines: Iterable[Line], **config: Any) -> Run:
    """Return a run with ``lines``, as if it was loaded."""
    return Run(meta=meta(**config), lines=Lines.of(tuple(lines)))


def out_of_place(size_bytes: int = 1024) -> Case:
    """Return a case of an all_reduce that torch.distributed does not have."""
    return case(size_bytes, placement=Placement.OUT_OF_PLACE)
