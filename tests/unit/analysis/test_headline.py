"""The headline: the verdicts about the question of a run, in a few lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.headline import Headline, HeadlineLine
from nccl_bench.records.schema import Line, Status
from nccl_bench.report.markdown import markdown_report
from nccl_bench.report.terminal import TerminalReport
from nccl_bench.report.verdicts import verdict_tables
from tests.support.synthetic_comparisons import compared_runs, comparison
from tests.support.synthetic_runs import case, crash, run, samples, wrong

USER_ARMS = [{"name": name, "target": "engine.pynccl:PyNccl", "tree": name} for name in ("before", "after")]
RUN: dict[str, Any] = {"baseline": "before", "arms": ["stream-free", "before", "after"], "user_arms": USER_ARMS}


def measured(arm: str, time_us: float, size: int = 8, **changes: Any) -> Line:
    times = tuple(time_us * (1 + 0.001 * (number % 3)) for number in range(25))
    return samples(arm, case=case(size), samples_us=times, **changes)


def before_and_after() -> list[Line]:
    """Return three arms at two sizes: after is faster than before at 8 B and equal at 16 B; stream-free is slower."""
    lines = []
    for size, after_us in ((8, 8.0), (16, 10.0)):
        times = {"stream-free": 20.0, "before": 10.0, "before:twin": 10.0, "after": after_us}
        lines += [measured(arm, time_us, size) for arm, time_us in times.items()]
    return lines


def lines_of(*cells: Any, **changes: Any) -> tuple[HeadlineLine, ...]:
    return compared_runs(cells, **changes).headline.lines


def headline_of(lines: Iterable[Line]) -> Headline:
    return Analysis.of(run(lines, **RUN)).headline


def test_after_against_before_is_the_headline_and_the_first_table() -> None:
    analysis = Analysis.of(run(before_and_after(), **RUN))
    headline = analysis.headline
    assert headline.title == "after against before, all_reduce bfloat16 sum in-place"
    assert [line.label for line in headline.lines] == ["FASTER", "SAME"]
    assert [table.title.partition(":")[0] for table in verdict_tables(analysis)] == [
        "after against before",
        "stream-free against before",
    ]
    assert "The baseline is before, because the run has the arms before and after." in " ".join(analysis.notes)


def test_the_headline_stands_above_the_notes_and_tables() -> None:
    analysis = Analysis.of(run(before_and_after(), **RUN))
    terminal = TerminalReport(width=80, styled=False).render(analysis)
    markdown = markdown_report(analysis)
    for text in (terminal, markdown):
        order = (
            "after against before",
            "Results: right in all 8 cells",
            "Command: nccl-bench run",
            "A time is",
            "gated",
        )
        positions = [text.index(part) for part in order[:-1]] + [text.rindex(order[-1])]
        assert positions == sorted(positions)


def test_a_line_of_several_pairs_names_its_pair() -> None:
    first, second = lines_of(comparison(), comparison(candidate="torch"))
    assert first.about == "stream-free (after) against dedicated-stream (before), all_reduce bfloat16 sum in-place"
    assert second.about.startswith("torch (after)")
    assert lines_of(comparison())[0].about == ""


def test_an_arm_that_was_never_compared_is_named() -> None:
    analysis = Analysis.of(run([measured("before", 10.0), measured("before:twin", 10.0)], **RUN))
    assert analysis.headline.problems == ("after is not compared with before in any case: not measured",)
    failed = [measured("before", 10.0), samples("after", status=Status.DECLINED), crash(arm="after")]
    assert "after is not compared with before in any case: crash, declined" in headline_of(failed).problems


def test_the_results_say_what_was_wrong_and_what_was_not_checked() -> None:
    def results(*lines: Line) -> str:
        return next(fact.text for fact in headline_of(lines).facts if fact.name == "Results")

    right, unchecked = measured("before", 10.0), measured("after", 9.0, 16, wrong=None, tolerance_ulp=None)
    assert results(right) == "right in 1 cell"
    assert results(right, wrong(arm="after")) == "WRONG in 1 cell of after, right in 1 cell"
    assert results(right, unchecked) == "right in 1 cell, not checked in 1 cell"
    assert results() == "none"
    declined = measured("after", 9.0, status=Status.DECLINED, wrong=None, reason="too large")
    assert results(right, declined) == "right in 1 cell, declined in 1 cell"
    late = measured("after", 9.0, status=Status.WRONG, wrong=3)
    assert results(late) == "WRONG in 1 cell of after"


def test_the_notes_name_the_interpreter_of_an_arm_once() -> None:
    user_arms = [{**arm, "python": "/envs/a/bin/python"} for arm in USER_ARMS]

    def notes(*apart: str) -> str:
        sets = [{"arms": ["stream-free"]}, {"arms": list(apart), "reason": "REASON"}] if apart else []
        measured_run = run(before_and_after(), **{**RUN, "user_arms": user_arms})
        worker = {**(measured_run.meta.get("worker") or {}), "process_sets": sets}
        return " ".join(Analysis.of(replace(measured_run, meta={**measured_run.meta, "worker": worker})).notes)

    assert "before, after: /envs/a/bin/python runs the processes." in notes()
    assert "before: /envs/a/bin/python runs the processes." in notes("after")
    assert "runs the processes" not in notes("before", "after")
