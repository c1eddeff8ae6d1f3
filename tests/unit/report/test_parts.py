"""The table of an overlap: its parts, what is hidden and what becomes slower, in every format that has tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.catalog.cases import Scenario
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.schema import Line
from nccl_bench.report.html.analysis_page import html_report
from nccl_bench.report.markdown import markdown_report
from nccl_bench.report.parts import part_tables
from nccl_bench.report.terminal import TerminalReport
from tests.support.synthetic_runs import case, part_times, run, samples

ARMS = ("stream-free", "dedicated-stream", "dedicated-stream:twin", "torch-async")
HIDDEN_STREAM = {"collective_together_us": ()}
NO_EVENTS = {"product_in_sequence_us": (), "product_together_us": (), "collective_in_sequence_us": (), **HIDDEN_STREAM}


def overlap(timings: tuple[Timing, ...] = (Timing.GATED,), products: tuple[str, ...] = ("4096x4096x4096",)) -> Analysis:
    """Return an overlap of two sizes; in graphs there are no events, and torch hides its stream."""
    lines: list[Line] = []
    for timing in timings:
        for size, product in zip((2**20, 2**24), products * (2 // len(products)), strict=True):
            of_size = case(size, "all_gather", scenario=Scenario.OVERLAP)
            for arm in ARMS:
                absent = NO_EVENTS if timing is Timing.GRAPH else HIDDEN_STREAM if arm == "torch-async" else {}
                parts = replace(part_times(**absent), product=product)
                lines.append(samples(arm, timing, case=of_size, parts=parts))
    return Analysis.of(run(lines))


def cells(analysis: Analysis, name: str) -> list[str]:
    (table,) = part_tables(analysis)
    return [cell.strip() for column in table.columns if column.name == name for cell in column.cells]


def test_a_row_for_each_size_and_arm_has_the_parts_the_hidden_share_and_the_slowdowns() -> None:
    analysis = overlap()
    assert cells(analysis, "arm") == ["stream-free", "dedicated-stream", "torch-async"] * 2
    assert {*cells(analysis, "hidden (%)")} == {"50"}
    assert cells(analysis, "product, collective slower (%)")[:3] == ["+10 +100", "+10 +100", "+10    ?"]
    (table,) = part_tables(analysis)
    assert table.title == "overlap all_gather bfloat16 in-place, 4 ranks, gated parts (us)"
    assert table.notes[0] == "product: 4096x4096x4096."
    assert table.width <= 80


def test_products_that_differ_are_named_with_their_sizes_and_the_words_are_explained_once() -> None:
    analysis = overlap(timings=(Timing.GATED, Timing.GRAPH), products=("64x64x64", "128x128x256"))
    gated, graph = part_tables(analysis)
    assert gated.notes[0] == "product: 64x64x64 at 1M, 128x128x256 at 16M."
    assert len(graph.notes) == 1 < len(gated.notes)
    assert [column.name for column in graph.columns][-1] == "hidden (%)"


def test_a_run_without_parts_has_no_such_table() -> None:
    assert not list(part_tables(Analysis.of(run([samples("torch")]))))


@pytest.mark.parametrize("report", [TerminalReport(width=80, styled=False).render, markdown_report, html_report])
def test_the_table_is_in_every_report_that_has_tables(report: object) -> None:
    assert callable(report)
    text = report(overlap())
    assert "gated parts (us)" in " ".join(text.split())
    assert "4096x4096x4096" in text


def test_a_page_of_an_overlap_has_no_bandwidth_because_its_time_is_not_that_of_the_collective_alone() -> None:
    page = html_report(overlap())
    assert 'id="scenario"' in page
    assert 'id="bandwidth"' not in page
