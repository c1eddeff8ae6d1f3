"""The plan of a run: its cases, and what is left out and why."""

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
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.run import resolve
from nccl_bench.errors import UsageError
from nccl_bench.plan.cases import make_plan
from nccl_bench.plan.combinations import join_combinations


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


def test_sizes_that_are_rounded_are_left_out_with_the_sizes_that_are_measured() -> None:
    def texts(world_size: int = 2, **layer: object) -> tuple[str, ...]:
        return make_plan(resolve("cpu", {"arms": "torch", **layer}), world_size).left_out

    assert texts(sizes="10,16", dtypes="float32") == ("all_reduce float32: 10 to 8 is rounded down, to whole elements",)
    assert texts(sizes="9,10", dtypes="float32,int32,int8") == (
        "all_reduce float32,int32: 9 to 8, 10 to 8 are rounded down, to whole elements",
    )
    assert texts(3, sizes="1K:16K:x2", collectives="all_gather") == (
        "all_gather bfloat16: 1K to 1008, 2K to 2016, 4K to 4080 and 2 more sizes are rounded down, to equal blocks of "
        "3 ranks, as in nccl-tests",
    )
    assert texts(sizes="8,1K") == ()


def test_empty_cases_are_left_out_with_one_text_for_a_collective() -> None:
    config = resolve(
        "cuda", {"collectives": "all_gather,all_reduce", "sizes": "8,64", "placements": "in-place,out-of-place"}
    )
    plan = make_plan(config, 4)
    sizes = [(planned.case.collective, planned.case.size_bytes) for planned in plan.cases]
    assert sizes == [("all_gather", 64)] * 2 + [("all_reduce", 8), ("all_reduce", 64)] * 2
    assert plan.left_out[0] == "all_gather bfloat16 of 8: too small for 4 ranks after nccl-tests' rounding"
    assert len(plan.left_out) == 2
    assert [planned.case.count for planned in plan.cases if planned.case.collective == "all_gather"] == [8, 8]


def test_empty_cases_with_the_same_sizes_are_one_text() -> None:
    layer = {"collectives": "all_gather,all_to_all,all_reduce", "placements": "out-of-place"}
    plan = make_plan(resolve("cuda", layer, {"sizes": "4:64:+4", "dtypes": "float64,int8", "arms": "stream-free"}), 4)
    assert plan.left_out == (
        "all_gather,all_to_all float64,int8 of 4 to 60: too small for 4 ranks after nccl-tests' rounding",
        "all_reduce float64 of 4: too small for 4 ranks after nccl-tests' rounding",
        "all_reduce float64: 12 to 8, 20 to 16, 28 to 24 and 4 more sizes are rounded down, to whole elements",
    )


def test_every_reason_is_reported_once() -> None:
    everything = {"collectives": "all", "dtypes": "all", "redops": "all", "placements": "all", "timings": "all"}
    for device in DEVICES:
        left_out = make_plan(resolve(device, everything), 4).left_out
        reasons = [text.rpartition(": ")[2] for text in left_out]
        assert len(set(reasons)) == len(reasons) <= 10


@given(st.sets(st.tuples(*[st.sampled_from("abc")] * 3)))
def test_joined_combinations_stand_for_all_combinations_and_no_others(combinations: set[tuple[str, ...]]) -> None:
    texts = join_combinations(sorted(combinations))
    expanded = [item for text in texts for item in itertools.product(*(part.split(",") for part in text.split()))]
    assert sorted(expanded) == sorted(combinations)


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


def test_a_case_leaves_out_the_arms_that_do_not_support_it_with_the_reason() -> None:
    plan = make_plan(resolve("cuda", {"sizes": "8", "placements": "in-place,out-of-place"}), 2)
    in_place, out_of_place = plan.cases
    assert in_place.case.placement is Placement.IN_PLACE
    twin = "dedicated-stream:twin"
    assert in_place.arms == ("stream-free", "dedicated-stream", "torch", "torch-async", twin)
    assert out_of_place.arms == ("stream-free", "dedicated-stream", twin)
    assert plan.left_out == (
        "torch, torch-async do not run all_reduce bfloat16 sum out-of-place: "
        "torch.distributed has no out-of-place form of this collective",
    )


def test_a_case_that_no_arm_runs_is_left_out() -> None:
    plan = make_plan(resolve("cpu", {"sizes": "8", "dtypes": "float,f8e4m3"}), 2)
    assert [planned.case.dtype for planned in plan.cases] == ["float32"]
    assert plan.left_out == ("no arm runs all_reduce float8_e4m3fn sum: Gloo does not reduce float8",)


@pytest.mark.parametrize("placements", ["in-place", "in-place,out-of-place"])
def test_a_collective_without_an_in_place_form_is_measured_out_of_place(placements: str) -> None:
    layer = {"sizes": "64", "placements": placements, "arms": "stream-free"}
    plan = make_plan(resolve("cuda", layer, {"collectives": "send_recv"}), 2)
    assert [planned.case.placement for planned in plan.cases] == [Placement.OUT_OF_PLACE]
    assert plan.left_out == ("send_recv has no in-place form: it is measured out-of-place",)
    plan = make_plan(resolve("cuda", layer, {"collectives": "send_recv,all_to_all"}), 2)
    assert plan.left_out == ("send_recv, all_to_all have no in-place form: they are measured out-of-place",)


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


def test_timings_that_the_device_lacks_are_left_out() -> None:
    plan = make_plan(resolve("cpu", {"timings": "enqueue,graph,eager"}), 2)
    assert plan.timings == (Timing.EAGER, Timing.ENQUEUE)
    assert plan.left_out == ("graph timing is absent: the CPU has no CUDA graphs",)
    assert make_plan(resolve("cuda", {"timings": "all"}), 2).timings == tuple(Timing)
    assert make_plan(resolve("cpu", {}), 2).left_out == ()


def test_the_default_stream_of_the_cpu_has_no_gated_timings() -> None:
    plan = make_plan(resolve("cpu", {"caller_stream": "default", "timings": "eager,gated,enqueue"}), 2)
    assert plan.timings == (Timing.EAGER,)
    assert [text.split(" timing is absent")[0] for text in plan.left_out] == ["gated", "enqueue"]


def test_the_default_stream_of_cuda_has_no_graph_timing() -> None:
    plan = make_plan(resolve("cuda", {"caller_stream": "default"}), 2)
    assert plan.timings == (Timing.EAGER, Timing.GATED, Timing.ENQUEUE)
    assert [text.split(" timing is absent")[0] for text in plan.left_out] == ["graph"]
    assert make_plan(resolve("cuda"), 2).timings == tuple(Timing)


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


def test_a_chain_has_a_case_for_each_number_of_layers_and_tokens() -> None:
    options = {"scenario": "chain", "hidden": "64,128", "layers": "2,4", "tokens": "1,8", "arms": "torch"}
    cases = [planned.case for planned in make_plan(resolve("cpu", options), 4).cases]
    expected = list(itertools.product((64, 128), (2, 4), (1, 8)))
    assert [(case.hidden, case.layers, case.tokens) for case in cases] == expected
    assert all(case.size_bytes == 2 * case.hidden * case.tokens for case in cases if case.hidden and case.tokens)


def test_a_chain_leaves_out_what_it_cannot_measure() -> None:
    options = {"scenario": "chain", "collectives": "all_gather", "redops": "max", "dtypes": "int8,float"}
    plan = make_plan(resolve("cpu", options), 2)
    assert {planned.case.collective for planned in plan.cases} == {"all_reduce"}
    assert {planned.case.dtype for planned in plan.cases} == {"float32"}
    assert plan.left_out == (
        "the scenario chain has no all_gather: it measures all_reduce",
        "the scenario chain has no max: it measures sum",
        "no arm runs all_reduce int8 sum: the scenario chain multiplies matrices of bfloat16, float16, float32, "
        "float64",
    )


def test_a_chain_whose_ranks_cannot_share_a_token_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--hidden has 100: 3 ranks share .* give a multiple of 6"):
        make_plan(resolve("cpu", {"scenario": "chain", "hidden": 100}), 3)


def test_a_late_rank_for_which_no_other_rank_waits_is_refused() -> None:
    with pytest.raises(UsageError, match="other ranks wait: give --nproc 2 or more"):
        make_plan(resolve("cpu", {"scenario": "skew"}), 1)


def test_a_chain_of_more_ranks_than_stay_exact_is_left_out() -> None:
    config = resolve("cpu", {"scenario": "chain", "hidden": 1024, "dtypes": "bfloat16,float", "arms": "torch"})
    plan = make_plan(config, 128)
    assert {planned.case.dtype for planned in plan.cases} == {"float32"}
    assert plan.left_out == (
        "no arm runs all_reduce bfloat16 sum: with 128 ranks the results of the scenario chain would not be exact",
    )
