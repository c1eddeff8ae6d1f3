"""Reports of scenarios: the unit of a time, the time of a token, and the wait and the transfer of a late rank."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.scenario_times import Skew
from nccl_bench.records.schema import Samples
from nccl_bench.report.html.analysis_page import html_report
from nccl_bench.report.json import json_report
from nccl_bench.report.layout import Table
from nccl_bench.report.markdown import markdown_report
from nccl_bench.report.question import question_tables
from nccl_bench.report.scenarios import scenario_tables
from nccl_bench.report.tables import measurement_tables
from tests.support.synthetic_runs import case, run, samples

ARMS = {"stream-free": 28.0, "dedicated-stream": 56.0}


def chain(tokens: int) -> Case:
    return case(tokens * 8192 * 2, scenario=Scenario.CHAIN, hidden=8192, layers=40)


def of_chain() -> Analysis:
    lines = [
        samples(arm, timing, case=chain(tokens), samples_us=(time_us * tokens,) * 7)
        for tokens in (1, 32)
        for timing in (Timing.EAGER, Timing.GRAPH)
        for arm, time_us in ARMS.items()
    ]
    return Analysis.of(run(lines, arms=list(ARMS)))


def late(arm: str, delay_us: int, transfer_us: float) -> Samples:
    times: dict[str, Any] = {
        "samples_us": (delay_us + 1 + transfer_us,) * 7,
        "skew": Skew(late_rank=3, delay_us=(delay_us + 2.0,) * 7, late_rank_us=(transfer_us,) * 7),
    }
    return samples(arm, case=case(scenario=Scenario.SKEW, delay_us=delay_us), **times)


def of_skew() -> Analysis:
    lines = [late(arm, delay_us, time_us) for delay_us in (0, 10, 200) for arm, time_us in ARMS.items()]
    return Analysis.of(run(lines, arms=list(ARMS)))


def cells(table: Table) -> dict[str, list[str]]:
    return {" ".join(each.header).strip(): [cell.strip() for cell in each.cells] for each in table.columns}


def test_a_chain_has_a_table_with_the_time_of_a_layer_and_of_a_token() -> None:
    (table,) = scenario_tables(of_chain())
    assert table.title == "chain (hidden 8192, 40 layers) all_reduce bfloat16 sum in-place, 4 ranks (us)"
    texts = {" ".join(name.split()): column for name, column in cells(table).items()}
    assert texts["tokens"] == ["1", "1", "32", "32"]
    assert texts["arm"] == [*ARMS, *ARMS]
    assert texts["eager layer"] == ["28.0", "56.0", "896", "1792"]
    # 40 layers, of one token and of 32 tokens.
    assert texts["graph token"] == ["1120", "2240", "1120", "2240"]


def test_a_record_of_a_chain_with_less_than_a_token_has_no_time_of_a_token() -> None:
    odd = (case(64, scenario=Scenario.CHAIN, hidden=8192, layers=40), case(64, scenario=Scenario.CHAIN))
    for each in odd:
        (table,) = scenario_tables(Analysis.of(run([samples(case=each)])))
        assert cells(table)["tokens"] == [""]
        assert table.columns[-1].cells[0].strip() == ""


def test_every_time_of_a_chain_is_that_of_a_layer_and_none_is_a_bandwidth() -> None:
    analysis = of_chain()
    (table,) = question_tables(analysis, 80)
    assert table.notes[0].startswith("Times in us a layer; ")
    assert "time that a layer saves" in table.notes[1]
    titles = [table.title for table in measurement_tables(analysis)]
    assert all(title.endswith("latency (us a layer)") for title in titles)
    page = html_report(analysis)
    assert "us a layer" in page
    assert "us a call" not in page
    assert "busbw" not in {key for row in json.loads(json_report(analysis))["summary"] for key in row}


def test_wait_and_transfer_of_a_late_rank_stand_side_by_side_for_each_delay_and_arm() -> None:
    (table,) = scenario_tables(of_skew())
    assert table.title == "skew all_reduce bfloat16 sum in-place, 4 ranks, 1 KiB, gated (us)"
    texts = cells(table)
    assert texts["delay"] == ["0", "0", "10", "10", "200", "200"]
    assert texts["late"] == ["2.00", "2.00", "12.0", "12.0", "202", "202"]
    assert texts["wait"] == ["1.00", "1.00", "11.0", "11.0", "201", "201"]
    assert texts["transfer"] == ["28.0", "56.0"] * 3
    assert table.notes[1].endswith("take longer by 1.00 us with stream-free and 1.00 us with dedicated-stream.")


def test_each_delay_is_a_case_of_its_own_in_every_report() -> None:
    analysis = of_skew()
    assert len(list(question_tables(analysis, 80))) == 3
    assert [cell["delay_us"] for cell in json.loads(json_report(analysis))["cells"]] == [0, 10, 200]
    assert "skew (200 us late) all_reduce" in markdown_report(analysis)


def test_ranks_that_differ_because_one_is_late_are_no_reason_for_a_warning() -> None:
    line = replace(late("stream-free", 200, 28.0), fastest_rank_us=(28.0,) * 7)
    assert not any("Ranks differ" in text for text in Analysis.of(run([line])).warnings)
    early = replace(line, case=case(scenario=Scenario.SKEW, delay_us=0))
    assert any("Ranks differ" in text for text in Analysis.of(run([early])).warnings)
