"""A run measures the messages of a workload and nothing else, each in the timing in which the model sends it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nccl_bench.catalog.timings import Timing
from nccl_bench.config.run import RunConfig, resolve
from nccl_bench.config.workload import Workload
from nccl_bench.errors import UsageError
from nccl_bench.plan.cases import Plan, make_plan
from tests.support.workloads import WORKLOAD, message


def planned(workload: Workload, *layers: dict[str, object], device: str = "cuda", world_size: int = 2) -> Plan:
    return make_plan(resolve(device, {"workload": workload}, *layers), world_size)


def cells(plan: Plan) -> list[tuple[str, int, tuple[Timing, ...]]]:
    return [(each.case.collective, each.case.size_bytes, each.timings) for each in plan.cases]


def test_each_message_is_measured_only_in_the_timing_in_which_the_model_sends_it() -> None:
    plan = planned(WORKLOAD)
    assert cells(plan) == [
        ("all_reduce", 4096, (Timing.EAGER, Timing.GRAPH)),
        ("all_gather", 65536, (Timing.EAGER,)),
    ]
    assert plan.timings == (Timing.EAGER, Timing.GRAPH)
    assert plan.comparisons("dedicated-stream") == 3 * 3
    assert plan.left_out == ()


def test_messages_whose_sizes_round_to_one_case_share_it() -> None:
    plan = planned(Workload(messages=(message(4096, 1), message(4097, 1, Timing.GRAPH))))
    assert cells(plan) == [("all_reduce", 4096, (Timing.EAGER, Timing.GRAPH))]


def test_messages_of_other_groups_are_left_out_with_their_share_of_the_calls() -> None:
    of_8_ranks = (message(64, 20, ranks=8), message(128, 6, ranks=8))
    workload = replace(WORKLOAD, messages=WORKLOAD.messages + of_8_ranks)
    plan = planned(workload)
    assert cells(plan) == cells(planned(WORKLOAD))
    assert plan.left_out == (
        "2 of 5 messages of the workload, 26 of its 100 calls, are of groups of 8 ranks, and this run has 2: --nproc 8 "
        "measures them",
    )
    with pytest.raises(UsageError, match="of groups of 2 and 8 ranks, and this run has 3: give --nproc 2"):
        planned(workload, world_size=3)


def test_a_device_without_graphs_measures_the_messages_in_graphs_gated_and_says_so() -> None:
    plan = planned(WORKLOAD, device="cpu")
    assert cells(plan)[0] == ("all_reduce", 4096, (Timing.EAGER, Timing.GATED))
    assert plan.left_out == ("the CPU has no CUDA graphs: the graph messages of the workload are measured as gated",)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        ({"sizes": "1K"}, "sizes is given beside a workload"),
        ({"timings": "enqueue"}, "timings (--timing) is given beside a workload"),
        ({"cost_split": True}, "cost_split is given beside a workload, and the parts of a call are those of enqueue"),
        ({"scenario": "skew"}, "a workload is given, and the scenario skew does not read it"),
        ({"redops": "sum,max"}, "redops (--op) is sum, max, and each message of a workload is measured once: give one"),
        ({"placements": "all"}, "measured once: give one"),
    ],
)
def test_an_option_that_contradicts_a_workload_is_refused(layer: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve("cuda", layer, {"workload": WORKLOAD})
    assert text in str(caught.value)


def test_the_options_of_a_workload_are_those_of_its_messages() -> None:
    config: RunConfig = resolve("cuda", {"workload": WORKLOAD, "sizes": None, "redops": "max"})
    assert (config.sizes, config.collectives) == ((4096, 65536), ("all_reduce", "all_gather"))
    assert config.timings == (Timing.EAGER, Timing.GRAPH)
