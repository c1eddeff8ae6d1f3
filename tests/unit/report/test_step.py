"""Step times in the reports: the headline first, and the messages behind it."""

from __future__ import annotations

import json

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.cli.gate import FailOn, gate
from nccl_bench.config.workload import Workload
from nccl_bench.errors import ExitCode
from nccl_bench.report import Detail
from nccl_bench.report.html.analysis_page import html_report
from nccl_bench.report.json import json_report
from nccl_bench.report.markdown import markdown_report
from nccl_bench.report.terminal import TerminalReport
from tests.support.snapshots import CheckSnapshot
from tests.support.workloads import message, steady, without, workload_run

BASE_US = (20.0, 10.0, 50.0)
SENTENCE = "torch takes 0.360 ms a step where dedicated-stream takes 0.450 (-20 %"


def terminal(analysis: Analysis, detail: Detail = Detail.USUAL) -> str:
    return TerminalReport(width=100, styled=False, detail=detail).render(analysis)


def test_a_run_of_a_workload_reads_as_its_snapshot(snapshot: CheckSnapshot) -> None:
    snapshot("workload-100", terminal(Analysis.of(workload_run(steady(BASE_US, 0.8)))))


def test_every_report_has_the_sentence_about_the_step() -> None:
    analysis = Analysis.of(workload_run(steady(BASE_US, 0.8)))
    for text in (markdown_report(analysis), html_report(analysis), terminal(analysis, Detail.QUIET)):
        assert SENTENCE in " ".join(text.replace("\\-", "-").replace("\xa0", " ").split())
    content = json.loads(json_report(analysis))
    assert content["headline"]["lines"][0]["text"].startswith(SENTENCE)
    (comparison,) = content["step"]["comparisons"]
    assert (comparison["verdict"], comparison["candidate_arm"]) == ("faster", "torch")
    assert sum(part["baseline_us"] for part in comparison["contributions"]) == pytest.approx(comparison["baseline_us"])
    assert [part["calls"] for part in comparison["contributions"]] == [4, 32, 1]
    assert content["step"]["twin_ratio"] == pytest.approx(1, rel=1e-3)


def test_messages_beyond_the_first_share_a_line_of_the_terminal_unless_all_are_wanted() -> None:
    workload = Workload(messages=tuple(message(8 * 2**step, 1) for step in range(12)))
    times_us = [float(step + 1) for step in range(12)]
    analysis = Analysis.of(workload_run(steady(times_us), workload=workload))
    table, _, _ = terminal(analysis).partition("\nall_reduce")
    assert "5 other messages" in table
    assert "all messages" in table
    assert "other messages" not in terminal(analysis, Detail.FULL)
    assert "other messages" not in markdown_report(analysis)


@pytest.mark.parametrize(
    ("ratio", "code"), [(0.8, ExitCode.OK), (1.2, ExitCode.SLOWER), (1.0, ExitCode.OK), (None, ExitCode.INCONCLUSIVE)]
)
def test_the_gate_of_a_workload_is_its_step_time(
    ratio: float | None, code: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    times_us = steady(BASE_US, ratio or 0.5)
    analysis = Analysis.of(workload_run(without(times_us, 1, "torch") if ratio is None else times_us))
    assert gate([FailOn.SLOWER, FailOn.INCONCLUSIVE], analysis) is code
    assert ("no step time has all messages" in capsys.readouterr().err) is (ratio is None)


def test_a_slower_message_alone_does_not_fail_the_gate_of_a_workload() -> None:
    def times_us(index: int, arm: str) -> list[float]:
        factor = 1.5 if (index, arm) == (2, "torch") else 0.8 if arm == "torch" else 1.0
        return [factor * time_us for time_us in steady(BASE_US)(index, arm) or ()]

    assert gate([FailOn.SLOWER], Analysis.of(workload_run(times_us))) is ExitCode.OK
