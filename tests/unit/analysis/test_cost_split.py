"""The parts of a call beside the whole: their sum, what they leave unexplained, and what an arm does not have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.cost_split import costed_calls
from nccl_bench.analysis.joined_launches import join_launches
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.cost_split import CostSplit
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples
from nccl_bench.report.cost_split import cost_tables
from tests.support.synthetic_runs import run, sweep

ARMS = ("dedicated-stream", "stream-free", "torch")
SIZES = tuple(2**step for step in range(3, 13))
HOST = {
    "dedicated-stream": CostSplit(stream_us=0.5, fork_us=4.0, call_us=8.0, join_us=4.0),
    "stream-free": CostSplit(stream_us=0.25, call_us=8.0),
    "torch": CostSplit(),
}


def with_split(line: Samples) -> Samples:
    if line.timing is Timing.GRAPH:
        return replace(line, cost=CostSplit(graph_nodes=3 if line.arm == "torch" else 1))
    return replace(line, cost=HOST[line.arm]) if line.timing is Timing.ENQUEUE else line


def made(sizes: tuple[int, ...] = SIZES) -> Run:
    return run([with_split(line) for line in sweep(ARMS, sizes) if isinstance(line, Samples)], arms=list(ARMS))


def test_the_sum_of_the_parts_stands_beside_the_whole() -> None:
    dedicated, stream_free, torch = costed_calls(Analysis.of(made((8,))).rows)
    assert (dedicated.sum_us, stream_free.sum_us, torch.sum_us) == (16.5, 8.25, None)
    assert (dedicated.graph_nodes, stream_free.graph_nodes, torch.graph_nodes) == (1, 1, 3)
    assert dedicated.enqueue_us is not None
    assert dedicated.rest_us == pytest.approx(dedicated.enqueue_us - 16.5)
    assert torch.rest_us is None


def test_the_table_leaves_absent_parts_empty_and_shows_few_sizes_at_first() -> None:
    analysis = Analysis.of(made())
    (few,), (every,) = (list(cost_tables(analysis, every_size=every)) for every in (False, True))
    rows = {
        column.name: [cell.strip() for cell in column.cells][:3] for column in few.columns if column.name != "enqueue"
    }
    assert [cell.strip() for cell in few.columns[0].cells] == ["8"] * 3 + ["256"] * 3 + ["4K"] * 3
    assert len(every.columns[0].cells) == len(SIZES) * len(ARMS)
    assert {name: rows[name] for name in ("arm", "fork", "call", "sum", "nodes")} == {
        "arm": list(ARMS),
        "fork": ["4.00", "", ""],
        "call": ["8.00", "8.00", ""],
        "sum": ["16.5", "8.25", ""],
        "nodes": ["1", "1", "3"],
    }
    assert few.notes[-1].startswith("Other sizes")


def test_a_run_without_splits_has_no_such_table() -> None:
    assert list(cost_tables(Analysis.of(run(sweep(ARMS, (8,)), arms=list(ARMS))), every_size=True)) == []


def test_launches_have_the_median_of_each_part() -> None:
    lines = [
        replace(line, launch=launch, cost=line.cost and replace(line.cost, call_us=float(launch)))
        for launch in (1, 2, 6)
        for line in made((8,)).samples.lines()
        if line.timing is Timing.ENQUEUE and line.arm == "stream-free"
    ]
    joined = join_launches(run(lines, arms=["stream-free"])).samples.cost[0]
    assert joined == CostSplit(stream_us=0.25, call_us=2.0)
