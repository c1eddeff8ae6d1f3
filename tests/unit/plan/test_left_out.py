"""What a plan leaves out, with one text for each reason."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.run import resolve
from nccl_bench.plan.cases import make_plan
from nccl_bench.plan.combinations import join_combinations


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
