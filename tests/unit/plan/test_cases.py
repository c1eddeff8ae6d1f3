"""The plan of a run: its cases, the arms of each case, and what is refused."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nccl_bench.catalog.arms import ARMS, arm_spec, twin_of
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.support import unsupported
from nccl_bench.config.run import resolve
from nccl_bench.errors import UsageError
from nccl_bench.plan.cases import make_plan


def test_the_cases_are_the_product_of_the_configured_choices() -> None:
    config = resolve(
        "cuda",
        {
            "collectives": "all_reduce,broadcast",
            "sizes": "8,1K",
            "dtypes": "float,bfloat16",
            "redops": "sum,max",
            "placements": "in-place,out-of-place",
            "root": 2,
        },
    )
    plan = make_plan(config, 4)
    cases = [planned.case for planned in plan.cases]
    assert len(set(cases)) == len(cases) == 2 * 2 * 2 * 2 + 2 * 2 * 2
    assert {(c.redop, c.root) for c in cases if c.collective == "all_reduce"} == {(RedOp.SUM, None), (RedOp.MAX, None)}
    assert {(c.redop, c.root) for c in cases if c.collective == "broadcast"} == {(None, 2)}
    assert {(c.dtype, c.size_bytes, c.count) for c in cases} == {
        ("float32", 8, 2),
        ("float32", 1024, 256),
        ("bfloat16", 8, 4),
        ("bfloat16", 1024, 512),
    }
    # The size varies fastest, so the rows of a table are measured in their order.
    assert [c.size_bytes for c in cases] == [8, 1024] * 12


def test_sizes_that_round_to_the_same_are_one_case() -> None:
    plan = make_plan(resolve("cuda", {"collectives": "all_reduce,all_gather", "sizes": "64,65,100,128"}), 4)
    sizes = [(planned.case.collective, planned.case.size_bytes) for planned in plan.cases]
    assert sizes == [
        ("all_reduce", 64),
        ("all_reduce", 100),
        ("all_reduce", 128),
        ("all_gather", 64),
        ("all_gather", 128),
    ]


@pytest.mark.parametrize(
    ("layer", "world_size", "message"),
    [
        (
            {"collectives": "all_gather", "sizes": "8"},
            4,
            "nothing is left to measure: all_gather bfloat16 of 8: too small",
        ),
        ({"dtypes": "f8e5m2", "sizes": "8"}, 2, "nothing is left to measure: .*Gloo does not reduce float8"),
        ({"dtypes": "int32", "redops": "avg"}, 2, "nothing is left to measure: .*Gloo does not average integers"),
        ({"timings": "graph"}, 2, "no timing is left to measure: graph timing is absent: the CPU has no CUDA graphs"),
        ({"root": 4}, 4, "--root is rank 4, but there are only ranks 0 to 3"),
        ({"ops_per_batch": 101}, 2, "is 101, but must be at most 100 with these arms"),
        ({"ops_per_batch": 501, "arms": "stream-free"}, 2, "is 501, but must be at most 500 with these arms"),
        ({"timings": "enqueue", "per_iteration": True}, 2, "--per-iteration .* add eager or gated"),
        (
            {"timings": "eager,gated", "cost_split": True},
            2,
            "^--cost-split measures the parts of enqueue, .*: add enqueue to --timing, or leave --cost-split out$",
        ),
        (
            {"caller_stream": "default", "cost_split": True},
            2,
            "^--cost-split .*: the CPU's default stream runs work inside .*: leave --cost-split out$",
        ),
        (
            {"timings": "gated,enqueue", "caller_stream": "default"},
            2,
            "no timing is left to measure: gated timing is absent: the CPU's default stream runs work inside the call",
        ),
    ],
)
def test_a_plan_without_anything_to_measure_is_refused_with_the_reason(
    layer: dict[str, object], world_size: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make_plan(resolve("cpu", layer), world_size)


@given(
    st.sampled_from(sorted(DEVICES)),
    st.sets(st.sampled_from(sorted(COLLECTIVES)), min_size=1),
    st.sets(st.sampled_from(sorted(DTYPES)), min_size=1),
    st.sets(st.sampled_from(tuple(RedOp)), min_size=1),
    st.sets(st.sampled_from(tuple(Placement)), min_size=1),
    st.integers(1, 9),
)
def test_every_planned_case_can_run_and_is_not_empty(
    device: str,
    collectives: set[str],
    dtypes: set[str],
    redops: set[RedOp],
    placements: set[Placement],
    world_size: int,
) -> None:
    config = resolve(
        device,
        {
            "collectives": list(collectives),
            # Every device and arm supports float32 out of place or in place, so something is always left.
            "dtypes": ["float32", *dtypes],
            "redops": list(redops),
            "placements": [*placements, Placement.IN_PLACE, Placement.OUT_OF_PLACE],
            "sizes": "8,100,1K",
        },
    )
    plan = make_plan(config, world_size)
    for planned in plan.cases:
        case, row = planned.case, planned.case.row
        assert case.count > 0
        assert case.size_bytes == row.size_bytes(case.count, DTYPES[case.dtype].itemsize, world_size)
        assert (case.redop is not None, case.root is not None) == (row.reduces, row.rooted)
        assert case.placement in row.placements
        assert planned.arms
        for arm in config.arms:
            reason = unsupported(ARMS[arm], config.device_spec, case.collective, case.dtype, case.redop, case.placement)
            assert (reason is None) == (arm in planned.arms)
        assert {*planned.placements.items()} == {(arm, case.placement) for arm in planned.arms}
        assert (twin_of(config.baseline) in planned.arms) == bool(planned.candidates(config.baseline))


def test_as_many_operations_as_fit_and_per_iteration_with_one_fitting_timing_are_accepted() -> None:
    assert make_plan(resolve("cpu", {"ops_per_batch": 100}), 2).cases
    assert make_plan(resolve("cpu", {"ops_per_batch": 500, "arms": "stream-free,transport"}), 2).cases
    assert make_plan(resolve("cpu", {"per_iteration": True, "timings": "gated,enqueue"}), 2).timings


def test_the_baseline_is_the_dedicated_stream_or_else_the_first_arm() -> None:
    assert resolve("cuda").baseline == "dedicated-stream"
    assert resolve("cuda", {"arms": "torch,dedicated-stream"}).baseline == "dedicated-stream"
    assert resolve("cuda", {"arms": "torch,stream-free"}).baseline == "torch"
    assert resolve("cuda", {"arms": "torch,stream-free", "baseline": "stream-free"}).baseline == "stream-free"
    with pytest.raises(
        UsageError, match=r"'dedicated-stream', which is no arm of this run: allowed are torch, stream-free"
    ):
        resolve("cuda", {"arms": "torch,stream-free", "baseline": "dedicated-stream"})


def test_a_twin_differs_from_its_arm_in_the_name_only() -> None:
    for name, arm in ARMS.items():
        assert arm_spec(name) == arm
        assert arm_spec(twin_of(name)) == replace(arm, name=f"{name}:twin")
    with pytest.raises(KeyError):
        arm_spec(twin_of("nobody"))


def test_the_twin_is_measured_where_an_arm_is_compared_with_the_baseline() -> None:
    layer = {"collectives": "all_reduce", "sizes": "8", "placements": "in-place,out-of-place", "timings": "eager,gated"}

    def arms(**more: object) -> list[tuple[str, ...]]:
        return [planned.arms for planned in make_plan(resolve("cuda", layer, more), 2).cases]

    assert (
        arms(arms="stream-free,dedicated-stream") == [("stream-free", "dedicated-stream", "dedicated-stream:twin")] * 2
    )
    assert arms(arms="stream-free") == [("stream-free",)] * 2
    # Out of place, torch does not run: first it is the baseline, then the only candidate.
    assert arms(arms="stream-free,torch", baseline="torch") == [
        ("stream-free", "torch", "torch:twin"),
        ("stream-free",),
    ]
    assert arms(arms="stream-free,torch") == [("stream-free", "torch", "stream-free:twin"), ("stream-free",)]


def test_comparisons_are_counted_by_case_timing_and_candidate() -> None:
    layer = {"sizes": "8,16", "placements": "in-place,out-of-place", "timings": "eager,gated,enqueue"}

    def comparisons(**more: object) -> int:
        config = resolve("cuda", layer, more)
        return make_plan(config, 2).comparisons(config.baseline)

    assert comparisons(arms="stream-free,dedicated-stream") == 2 * 2 * 3
    assert comparisons(arms="stream-free,dedicated-stream,torch") == 2 * 2 * 3 + 2 * 3
    assert comparisons(arms="stream-free,dedicated-stream,torch", baseline="torch") == 2 * 3 * 2
    assert comparisons(arms="stream-free") == 0


def test_the_smallest_and_the_largest_case_of_each_kind_are_chosen_once() -> None:
    plan = make_plan(resolve("cpu", {"sizes": "4K,64,1K", "collectives": "all_reduce,broadcast"}), 2)
    chosen = [(planned.case.collective, planned.case.size_bytes) for planned in plan.smallest_and_largest()]
    assert chosen == list(itertools.product(("all_reduce", "broadcast"), (4096, 64)))
    one_size = make_plan(resolve("cpu", {"sizes": "64"}), 2)
    assert one_size.smallest_and_largest() == one_size.cases


def test_a_plan_of_millions_of_cases_is_refused() -> None:
    with pytest.raises(UsageError, match="the plan has 3,000,000 cases, each launch counted, and the most are"):
        make_plan(resolve("cpu", {"sizes": "8,16,32", "launches": 1_000_000}), 2)
