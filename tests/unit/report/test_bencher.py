"""Bencher's JSON: names that stay the same and sort by size, and measures with their ranges."""

from __future__ import annotations

import json

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.schema import Skipped
from nccl_bench.report.bencher import bencher_report
from tests.support.synthetic_comparisons import compared_runs, comparison
from tests.support.synthetic_runs import case, hang, run, samples, sweep, wrong


def test_names_sort_by_size_and_have_no_twin_and_no_failure() -> None:
    sizes = (8, 1024, 2**30)
    lines = [
        *sweep(arms=("dedicated-stream", "torch"), sizes=reversed(sizes), timings=(Timing.GRAPH,)),
        samples("dedicated-stream:twin"),
        wrong(arm="torch"),
        hang(),
        Skipped(case=case(2**34), reason="large"),
    ]
    names = list(json.loads(bencher_report(Analysis.of(run(lines)))))
    assert names == sorted(names)
    assert names == [
        f"all_reduce/bfloat16/sum/in-place/{arm}/graph/{size:012d}"
        for arm in ("dedicated-stream", "torch")
        for size in sizes
    ]


def test_a_latency_is_in_nanoseconds_with_its_quartiles_and_a_ratio_has_its_interval() -> None:
    analysis = Analysis.of(run(sweep(arms=("dedicated-stream", "torch"), sizes=(8,), timings=(Timing.GRAPH,))))
    base, other = json.loads(bencher_report(analysis)).values()
    assert set(base) == {"latency"}
    assert set(other) == {"latency", "ratio"}
    for metric, least, most in ((base["latency"], 12_000, 13_000), (other["ratio"], 0.6, 0.7)):
        assert least < metric["lower_value"] <= metric["value"] <= metric["upper_value"] < most


def test_a_comparison_has_ratios_and_names_both_arms_if_they_differ() -> None:
    cells = [
        comparison(8, Verdict.SLOWER, 1.5),
        comparison(8, None, 1.25, interval=None, baseline="torch", candidate="torch", timing=Timing.EAGER),
    ]
    content = json.loads(bencher_report(compared_runs(cells)))
    assert list(content) == [
        "all_reduce/bfloat16/sum/in-place/stream-free against dedicated-stream/gated/000000000008",
        "all_reduce/bfloat16/sum/in-place/torch/eager/000000000008",
    ]
    with_interval, without = content.values()
    assert with_interval["ratio"]["lower_value"] < 1.5 < with_interval["ratio"]["upper_value"]
    assert without == {"ratio": {"value": 1.25}}
