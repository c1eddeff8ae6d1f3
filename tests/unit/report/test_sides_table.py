"""The table of a comparison of two sides with several arms."""

from __future__ import annotations

import re
from typing import Any

from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.shared_arm import SharedTimes
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.catalog.timings import Timing
from nccl_bench.report import Detail
from nccl_bench.report.terminal import TerminalReport
from tests.support.synthetic_comparisons import compared_runs, comparison

SHARED = SharedTimes(arm="dedicated-stream", before_us=24.5, after_us=15.6, sure_ratio=0.7)


def of_arm(arm: str, verdict: Verdict, ratio: float, **changes: Any) -> Comparison:
    return comparison(8, verdict, ratio, baseline=arm, candidate=arm, shared=SHARED, **changes)


CELLS = [
    of_arm("stream-free", Verdict.INCONCLUSIVE, 1.45, baseline_us=16.9, candidate_us=15.6, timing=Timing.EAGER),
    of_arm("torch", Verdict.FASTER, 0.8, baseline_us=43.6, candidate_us=26.7, timing=Timing.EAGER),
    of_arm("stream-free", Verdict.EQUIVALENT, 1.001, timing=Timing.GRAPH),
    of_arm("torch", Verdict.EQUIVALENT, 1.002, timing=Timing.GRAPH),
]


def shown(cells: list[Comparison], width: int = 100, detail: Detail = Detail.USUAL) -> str:
    analysis = compared_runs(cells, shared_arm="dedicated-stream")
    return TerminalReport(width=width, styled=False, detail=detail).render(analysis)


def test_a_line_has_the_times_of_all_arms_before_and_after() -> None:
    text = shown(CELLS)
    assert re.search(r"^ +8 +24.5 15.6 +16.9 15.6 \+45\? +43.6 26.7 -20 *$", text, re.MULTILINE)
    assert "% relative to dedicated-stream: + slower, = same, ? open." in text
    # In a narrow terminal, each arm has a table of its own.
    assert "torch, after against before: all_reduce" in shown(CELLS, width=40)


def test_a_timing_in_which_no_arm_changed_is_named_and_only_shown_in_full() -> None:
    assert "Not shown, because every arm is the same there: graph." in shown(CELLS)
    full = shown(CELLS, detail=Detail.FULL)
    assert "Not shown" not in full
    assert re.search(r"^ +eager +graph", full, re.MULTILINE)
    assert re.search(r"^ +graph", shown(CELLS[2:]), re.MULTILINE)
