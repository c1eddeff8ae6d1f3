"""Step time: one number for each arm, with the uncertainty of all messages, and no verdict if one is missing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.headline import Label
from nccl_bench.analysis.judging import OpenReason
from nccl_bench.analysis.statistics import Interval, Verdict
from nccl_bench.analysis.step_ratio import StepRatio, Term
from nccl_bench.analysis.step_time import StepComparison, StepTime
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.workload import Workload
from nccl_bench.errors import RecordError
from nccl_bench.records.schema import Status
from tests.support.synthetic_runs import declined, hang
from tests.support.workloads import BASE, TWIN, WORKLOAD, Times, lines_of, message, steady, without, workload_run

# A step of `WORKLOAD` has 4 eager all-reduces, 32 in graphs and a gather.
BASE_US = (20.0, 10.0, 50.0)
STEP_US = 4 * 20 + 32 * 10 + 50


def step_of(analysis: Analysis) -> StepTime:
    assert analysis.step is not None
    return analysis.step


def compared(times_us: Times, **arguments: object) -> StepComparison:
    (comparison,) = step_of(Analysis.of(workload_run(times_us, **arguments))).comparisons  # type: ignore[arg-type]
    return comparison


def sentence(analysis: Analysis) -> str:
    line = analysis.headline.lines[0]
    return f"{line.label} {line.text}"


def test_the_step_time_is_the_sum_of_count_times_time_over_the_steps() -> None:
    analysis = Analysis.of(workload_run(steady(BASE_US, ratio=0.8)))
    base, torch = step_of(analysis).arms
    assert (base.arm, torch.arm) == (BASE, "torch")
    assert (base.step_us, torch.step_us) == pytest.approx((STEP_US, 0.8 * STEP_US), rel=1e-3)
    (comparison,) = step_of(analysis).comparisons
    assert comparison.ratio == pytest.approx(0.8, rel=2e-3)
    assert comparison.verdict is Verdict.FASTER
    assert sentence(analysis) == (
        "FASTER torch takes 0.360 ms a step where dedicated-stream takes 0.450 (-20 %, -20.1 to -19.9), of it "
        "0.064 ms in 4 KiB all-reduces in graphs and 0.016 ms in 4 KiB all-reduces called eagerly"
    )


def test_a_message_counts_by_its_share_of_the_time() -> None:
    only_gather = steady(BASE_US)

    def times_us(index: int, arm: str) -> list[float]:
        factor = 2.0 if index == 2 and arm == "torch" else 1.0
        return [factor * time_us for time_us in only_gather(index, arm) or ()]

    comparison = compared(times_us)
    assert comparison.ratio == pytest.approx((STEP_US + 50) / STEP_US, rel=1e-3)
    assert comparison.largest[0].message.name == "64 KiB all-gathers called eagerly"
    assert comparison.largest[0].saved_us == pytest.approx(-50, rel=1e-2)


def test_messages_that_round_to_one_case_are_one_term() -> None:
    twice = Workload(messages=(message(4096, 3), message(4097, 5)))
    once = Workload(messages=(message(4096, 8),))
    times_us = steady((10.0, 10.0), ratio=0.9, spread=0.01)

    def run_of(workload: Workload) -> StepComparison:
        run = workload_run(times_us, workload=once)
        run.meta["config"]["workload"] = workload_run(times_us, workload=workload).meta["config"]["workload"]
        return step_of(Analysis.of(run)).comparisons[0]

    assert (run_of(twice).ratio, run_of(twice).interval) == (run_of(once).ratio, run_of(once).interval)


def test_a_step_of_one_message_has_the_ratio_and_at_most_the_interval_of_the_message() -> None:
    analysis = Analysis.of(
        workload_run(steady(BASE_US, 0.9, spread=0.02), workload=Workload(messages=(message(8, 1),)))
    )
    (comparison,) = step_of(analysis).comparisons
    (of_message,) = analysis.comparisons
    assert comparison.interval is not None
    assert of_message.interval is not None
    # The interval of the message is at 4.1 %, which is the next to 5 % that its rounds allow.
    assert comparison.ratio == pytest.approx(of_message.ratio)
    assert of_message.interval.low < comparison.interval.low < comparison.ratio
    assert comparison.ratio < comparison.interval.high < of_message.interval.high


@pytest.mark.parametrize("messages", [1, 4, 20])
def test_intervals_at_95_percent_contain_the_truth_in_about_95_percent(messages: int) -> None:
    rng = np.random.default_rng(7)
    calls = rng.integers(1, 50, messages)
    base_us = rng.uniform(8, 200, messages)
    true_ratios = rng.uniform(0.7, 1.3, messages)
    truth = float((calls * base_us * true_ratios).sum() / (calls * base_us).sum())
    tries, inside = 500, 0
    for _ in range(tries):
        terms = []
        for each, us, ratio in zip(calls.tolist(), base_us.tolist(), true_ratios.tolist(), strict=True):
            times = us * np.exp(rng.normal(0, 0.03, 15))
            # Some rounds are far off, which the medians ignore.
            noise = rng.normal(0, 0.03, 15) * np.where(rng.random(15) < 0.15, 5.0, 1.0)
            ratios = (ratio * np.exp(noise)).tolist()
            terms.append(Term(calls=each, base_us=float(np.median(times)), base_times_us=times.tolist(), ratios=ratios))
        interval = StepRatio(terms).interval(0.05)
        assert interval is not None
        inside += interval.low <= truth <= interval.high
    assert 0.93 <= inside / tries <= 0.99


def test_the_interval_of_many_messages_is_narrower_than_the_sum_of_their_intervals() -> None:
    few = [steady((10.0,), 1.0, spread=0.03)(0, "torch") for _ in range(16)]
    terms = [Term(calls=1, base_us=1.0, base_times_us=[1.0] * 20, ratios=times or ()) for times in few]
    single, many = (StepRatio(part).interval(0.05) for part in (terms[:1], terms))
    assert isinstance(single, Interval)
    assert isinstance(many, Interval)
    assert 0.2 <= (many.high - many.low) / (single.high - single.low) <= 0.25


def test_a_difference_below_that_of_the_twin_is_open() -> None:
    def times_us(index: int, arm: str) -> list[float]:
        factor = {TWIN: 1.06, "torch": 1.05}.get(arm, 1.0)
        return [factor * time_us for time_us in steady(BASE_US)(index, arm) or ()]

    comparison = compared(times_us)
    assert (comparison.verdict, comparison.reason) == (Verdict.INCONCLUSIVE, OpenReason.WITHIN_NOISE)
    assert comparison.noise_floor is not None
    assert comparison.noise_floor >= 0.06 * 0.99


def test_without_a_twin_there_is_no_verdict_about_a_difference() -> None:
    run = workload_run(steady(BASE_US, 0.8))
    run = replace(run, lines=[line for line in run.lines if getattr(line, "arm", "") != TWIN])  # type: ignore[arg-type]
    (comparison,) = step_of(Analysis.of(run)).comparisons
    assert (comparison.verdict, comparison.reason) == (Verdict.INCONCLUSIVE, OpenReason.NO_TWIN)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ([], "not measured"),
        ([hang(arm="torch")], "hang"),
        ([declined(arm="torch", timing=Timing.GRAPH)], "declined"),
    ],
)
def test_without_one_message_the_sum_is_no_step_time_and_has_no_verdict(more: list[object], reason: str) -> None:
    (of_graph,) = lines_of(Workload(messages=WORKLOAD.messages[1:2]), steady(BASE_US), ["torch"])
    lines = [replace(line, case=of_graph.case) for line in more]  # type: ignore[type-var]
    run = workload_run(without(steady(BASE_US, 0.5), 1, "torch"), more=lines)
    analysis = Analysis.of(run)
    (comparison,) = step_of(analysis).comparisons
    assert (comparison.ratio, comparison.verdict) == (None, None)
    assert [(each.message.name, each.reason) for each in comparison.missing] == [
        ("4 KiB all-reduces in graphs", reason)
    ]
    assert sentence(analysis) == (
        "OPEN no step time of torch: no time for 1 of 3 messages, 64 of 74 calls "
        f"(4 KiB all-reduces in graphs: {reason})"
    )


def test_calls_of_other_groups_are_named_beside_the_step_time() -> None:
    both = replace(WORKLOAD, messages=(*WORKLOAD.messages, message(64, 26, ranks=8)))
    run = workload_run(steady(BASE_US, 0.8))
    run.meta["config"]["workload"] = workload_run(steady((*BASE_US, 1.0)), workload=both).meta["config"]["workload"]
    analysis = Analysis.of(run)
    assert step_of(analysis).comparisons[0].verdict is Verdict.FASTER
    assert sentence(analysis).endswith("; without 26 of 100 calls, of groups of 8 ranks")


def test_without_a_common_round_of_a_message_there_is_no_comparison() -> None:
    run = workload_run(steady(BASE_US))
    lines = [
        replace(line, rounds=tuple(range(100, 120))) if getattr(line, "arm", "") == "torch" and index % 2 else line
        for index, line in enumerate(run.lines)
    ]
    analysis = Analysis.of(replace(run, lines=lines))  # type: ignore[arg-type]
    assert sentence(analysis).startswith(
        "OPEN the step times of dedicated-stream and torch are not compared: a message"
    )


def test_a_record_with_a_malformed_workload_is_refused_with_its_place() -> None:
    run = workload_run(steady(BASE_US))
    run.meta["config"]["workload"]["messages"][1]["collective"] = "all_reduced"
    with pytest.raises(RecordError, match=r"made-up cannot be summed up: its workload, message 2: collective"):
        Analysis.of(run)


def test_a_record_without_a_message_for_its_ranks_has_no_step_time() -> None:
    run = workload_run(steady(BASE_US))
    run.meta["launch"]["world_size"] = 3
    assert Analysis.of(run).step is None


def test_a_run_of_one_arm_ends_in_its_step_time() -> None:
    analysis = Analysis.of(workload_run(steady(BASE_US), arms=(BASE,)))
    (line,) = analysis.headline.lines
    assert line.label is Label.STEP
    assert line.text == "dedicated-stream takes 0.450 ms a step (0.450 to 0.450 ms)"


def test_with_several_launches_the_interval_comes_from_the_step_times_of_the_launches() -> None:
    ratios = (0.87, 0.9, 0.92, 0.9, 0.93)
    lines = [
        line
        for launch, ratio in enumerate(ratios, start=1)
        for line in lines_of(WORKLOAD, steady(BASE_US, ratio), (BASE, "torch", TWIN), launch=launch)
    ]
    run = replace(workload_run(steady(BASE_US)), lines=lines)  # type: ignore[arg-type]
    run.meta["config"]["launches"] = 5
    (comparison,) = step_of(Analysis.of(run)).comparisons
    mean = math.exp(np.mean(np.log(ratios)))
    half = 2.776 * float(np.std(np.log(ratios), ddof=1)) / math.sqrt(5)
    assert comparison.launches == 5
    assert comparison.noise_floor is None
    assert comparison.interval is not None
    assert (comparison.interval.low, comparison.interval.high) == pytest.approx(
        (mean * math.exp(-half), mean * math.exp(half)), rel=2e-3
    )
    # A launch without a message has no step time.
    fewer = [
        line for line in lines if not (getattr(line, "launch", 0) == 2 and getattr(line, "timing", "") == Timing.GRAPH)
    ]
    assert step_of(Analysis.of(replace(run, lines=fewer))).comparisons[0].launches == 4  # type: ignore[arg-type]


def test_a_twin_that_is_slower_in_every_launch_is_a_warning() -> None:
    def times_us(index: int, arm: str) -> list[float]:
        return [(1.05 if arm == TWIN else 1.0) * time_us for time_us in steady(BASE_US)(index, arm) or ()]

    lines = [
        line for launch in range(1, 6) for line in lines_of(WORKLOAD, times_us, (BASE, "torch", TWIN), launch=launch)
    ]
    run = replace(workload_run(steady(BASE_US)), lines=lines)  # type: ignore[arg-type]
    run.meta["config"]["launches"] = 5
    texts = [text for text in Analysis.of(run).warnings if "step time" in text]
    assert len(texts) == 1
    assert f"The twin of {BASE}, the same communicator made again, is slower in its step time: +5" in texts[0]


def test_a_wrong_result_of_a_message_leaves_no_step_time() -> None:
    run = workload_run(steady(BASE_US, 0.8))
    lines = [
        replace(line, status=Status.WRONG, wrong=4, samples_us=(), rounds=(), fastest_rank_us=(), slowest_rank=())
        if getattr(line, "arm", "") == "torch" and line.case and line.case.collective == "all_gather"
        else line
        for line in run.lines
    ]
    (comparison,) = step_of(Analysis.of(replace(run, lines=lines))).comparisons  # type: ignore[arg-type]
    assert [(each.reason, comparison.verdict) for each in comparison.missing] == [("wrong", None)]
