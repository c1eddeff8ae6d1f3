"""Warnings: when each is given, which cell it names, and which flag it recommends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.cell_warnings import cell_warnings
from nccl_bench.analysis.rows import rows_of
from nccl_bench.analysis.warning_texts import WarningText
from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.cases import Scenario
from nccl_bench.catalog.throttling import ThrottleReason
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.importers.nccl_tests import ARM
from nccl_bench.records.run import Run
from nccl_bench.records.schema import GpuState, Line
from tests.support.command_line import spellings
from tests.support.synthetic_runs import case, gpus, imported, meta, part_times, per_iteration, run, samples


def warnings_of(lines: Sequence[Line] | Run, **config: object) -> str:
    return "\n".join(Analysis.of(lines if isinstance(lines, Run) else run(lines, **config)).warnings)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (samples(discarded=7), ("in 1 cell, most for stream-free gated all_reduce bfloat16 1K (7 times)", "--iters")),
        (samples(fastest_rank_us=(5.0, 5.0, 5.0)), ("3.40 of 8.40 us, and rank 2 was slowest in 100%", "--rounds")),
        (
            samples(samples_us=(8.0, 10.0, 13.0)),
            ("more than 10 % of the median in 1 cell", "9.00 to 11.5 us, median 10.0 us"),
        ),
        (samples(tolerance_ulp=4), ("the largest tolerance is 4 ulp", "--op min,max")),
        (samples(wrong=None), ("Not checked: 1 cell", "--check 1")),
        (samples(per_iteration=per_iteration()), ("cost up to 2.75 us each", "--per-iteration")),
    ],
    ids=["discarded", "rank spread", "noise", "tolerance", "not checked", "per iteration"],
)
def test_a_warning_says_what_was_seen_and_which_flag_helps(line: Line, says: tuple[str, str]) -> None:
    text = warnings_of([line])
    assert all(part in text for part in says)
    assert all(part not in warnings_of([samples()]) for part in says)


@pytest.mark.parametrize("timing", Timing)
def test_noise_is_the_interquartile_range_of_the_rounds(timing: Timing) -> None:
    calm = samples(timing=timing, samples_us=(10.0, 10.0, 10.0, 10.9, 99.0))
    assert "Rounds differ" not in warnings_of([calm])
    worst = samples("torch", timing, samples_us=(8.0, 10.0, 14.0))
    text = warnings_of([calm, samples(timing=timing, samples_us=(8.0, 10.0, 13.0)), worst])
    assert f"in 2 cells, most for torch {timing} all_reduce bfloat16 1K: 9.00 to 12.0 us" in text
    assert "More --rounds" in text


CAPPED = {"throttle_reasons": (ThrottleReason.POWER_CAP,), "throttled_rank": 3, "throttled_share": 0.25}


def test_a_throttled_gpu_is_named_with_its_reason_and_the_remedy() -> None:
    worst = gpus(**CAPPED, sm_clock_mhz=1605, power_w=699.8)
    text = warnings_of([samples("torch", gpus=worst), samples(gpus=gpus(**CAPPED | {"throttled_share": 0.02}))])
    assert text == (
        "A GPU lowered its clocks in 2 cells, most for torch gated all_reduce bfloat16 1K: power cap on the GPU of "
        "rank 3 (25% of the time, SM clock 1605 MHz, 41 degrees Celsius, 700 W). These figures are those of a slower "
        "GPU. Compare only with runs at the same power limit, or raise it (nvidia-smi -pl WATTS). Then measure again."
    )


def test_two_reasons_with_one_remedy_name_it_once() -> None:
    hot = (ThrottleReason.SOFTWARE_THERMAL, ThrottleReason.HARDWARE_THERMAL)
    text = warnings_of([samples(gpus=gpus(throttle_reasons=hot, throttled_rank=0, temperature_c=None))])
    assert (
        "software thermal slowdown, hardware thermal slowdown on the GPU of rank 0 (SM clock 1980 MHz, 310 W)" in text
    )
    assert text.count("Cool the GPU") == 1


def test_another_process_on_a_gpu_is_named() -> None:
    shared = gpus(other_process=4711, other_process_rank=1)
    text = warnings_of([samples(gpus=shared), samples("torch", gpus=shared), samples("torch-async", gpus=gpus())])
    assert "in 2 cells, for example stream-free gated all_reduce bfloat16 1K: process 4711 on the GPU of rank 1" in text
    assert "CUDA_VISIBLE_DEVICES" in text


@pytest.mark.parametrize("state", [None, gpus(), gpus(throttle_reasons=(ThrottleReason.APPLICATION_CLOCKS,))])
def test_clocks_that_the_user_chose_give_no_warning(state: GpuState | None) -> None:
    assert warnings_of([samples(gpus=state)]) == ""


@pytest.mark.parametrize("cost_us", [None, 0.0, -0.5])
def test_events_without_a_cost_give_no_warning(cost_us: float | None) -> None:
    assert warnings_of([samples("torch", per_iteration=replace(per_iteration(), cost_us=cost_us))]) == ""


def test_ranks_may_differ_where_the_collective_has_a_root() -> None:
    early = samples(case=case(collective="broadcast"), fastest_rank_us=(1.0, 1.0, 1.0))
    assert "Ranks differ" not in warnings_of([early])


def test_runs_whose_overlaps_have_other_products_are_named_with_both_products() -> None:
    gather = case(2**20, "all_gather", scenario=Scenario.OVERLAP)
    first, same, other = (
        rows_of(run([samples(case=gather, parts=part_times(product=product))]))
        for product in ("64x64x64", "64x64x64", "64x64x128")
    )
    assert not list(cell_warnings([("before", first), ("after", same)]))
    (text,) = cell_warnings([("before", first), ("after", other)])
    assert (
        "in 1 case, for example overlap all_gather bfloat16 in-place 1M: 64x64x64 (before), 64x64x128 (after)" in text
    )
    assert "--product" in text


def test_the_worst_cell_of_several_runs_is_named_with_its_run() -> None:
    calm, worse = run([samples(discarded=1)]), run([samples("torch", discarded=5), samples(discarded=2)])
    (text,) = cell_warnings([("before", rows_of(calm)), ("after 2", rows_of(worse))])
    assert "in 3 cells, most for torch (after 2) gated all_reduce bfloat16 1K (5 times)" in text


def test_a_baseline_that_existed_before_loading_is_its_own_twin() -> None:
    user_arm = {"arm": "mine", "where": "a.py:1", "order": "current", "described": "as it is", "ready": True}

    def warned(arms: Sequence[str], **changes: object) -> bool:
        made_up = Run(
            meta=meta(baseline="mine") | {"worker": {"user_arms": [user_arm | changes]}},
            lines=tuple(map(samples, arms)),
        )
        return "mine is a function, or an object that existed before nccl-bench loaded it." in warnings_of(made_up)

    assert warned(["mine", twin_of("mine"), "torch"])
    assert not warned(["mine", twin_of("mine"), "torch"], ready=False)
    assert not warned(["mine", twin_of("mine"), "torch"], arm="torch")
    assert not warned(["mine", "torch"])


def test_an_import_with_events_between_its_operations_has_a_warning() -> None:
    events = imported(per_iteration=replace(per_iteration(), cost_us=None))
    config = {"source": ["all_reduce.txt"], "baseline": ARM}
    text = warnings_of([events, imported(case=case(8))], **config)
    assert "nccl-tests put events between operations (its option -I). All times in 1 cell" in text
    assert "with -I" not in warnings_of([imported()], **config)
    # The rounds of nccl-bench contain no events.
    assert "with -I" not in warnings_of([samples(per_iteration=per_iteration())])


def test_the_same_path_is_reported_only_for_measured_collectives() -> None:
    """A worker records the paths of all requested collectives."""
    made_up = run([samples(), samples("dedicated-stream"), samples(case=case(8, "broadcast"))])
    made_up.meta["worker"]["paths"] = [
        {"collective": collective, "arm": arm, "eager": "the same calls"}
        for collective in ("all_reduce", "all_gather")
        for arm in ("stream-free", "dedicated-stream")
    ]
    assert "run the same path in all_reduce (gated): the same calls." in warnings_of(made_up)
    assert "all_gather" not in warnings_of(made_up)


def test_the_flags_that_warnings_recommend_exist() -> None:
    flags = {flag for text in WarningText for flag in re.findall(r"--[a-z-]+", text)}
    assert flags
    assert flags <= spellings("run")
