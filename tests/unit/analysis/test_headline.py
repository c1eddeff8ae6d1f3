"""The headline: the verdicts about the question of a run, in a few lines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.catalog.timings import Timing
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


def lines_of(*cells: Any, **changes: Any) -> list[tuple[str, tuple[str, ...]]]:
    return [(answer.title, answer.lines) for answer in compared_runs(cells, **changes).headline.answers]


def test_after_against_before_is_the_headline_and_the_first_table() -> None:
    analysis = Analysis.of(run(before_and_after(), **RUN))
    (answer,) = analysis.headline.answers
    assert answer.title == "after against before: all_reduce bfloat16 sum in-place"
    assert answer.lines == ("gated: faster at 8 B (1 size, 0.80x); equivalent at 16 B (1 size, 1.00x)",)
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


def test_sizes_with_one_verdict_share_a_part_and_many_ranges_are_counted() -> None:
    sizes = [8, 16, 32, 64, 2**20, 2**21, 2**22, 2**30]
    verdicts = [Verdict.FASTER, Verdict.INCONCLUSIVE] * 4
    few = [comparison(size, Verdict.FASTER, 0.9) for size in sizes[:5]]
    assert lines_of(*few)[0][1] == ("gated: faster at 8 B to 1 MiB (5 sizes, 0.90x)",)
    many = [comparison(size, verdict, 0.9) for size, verdict in zip(sizes, verdicts, strict=True)]
    assert lines_of(*many)[0][1] == (
        "gated: faster in 4 sizes from 8 B to 4 MiB (0.90x); inconclusive in 4 sizes from 16 B to 1 GiB (0.90x)",
    )


def test_with_many_cases_the_first_pair_has_counts_for_each_timing_and_the_others_one_line() -> None:
    cells = [
        comparison(timing=timing, case=case(8, collective), candidate=candidate)
        for candidate in ("stream-free", "torch")
        for collective in ("all_reduce", "all_gather", "reduce_scatter")
        for timing in Timing
    ]
    (first, first_lines), (others, other_lines) = lines_of(*cells)
    assert (first, len(first_lines)) == ("stream-free (after) against dedicated-stream (before)", 4)
    assert first_lines[0] == "eager: equivalent in 3 cells"
    assert others == "Other comparisons"
    assert other_lines == ("torch (after) against dedicated-stream (before): equivalent in 12 cells",)


def test_an_arm_that_was_never_compared_is_named() -> None:
    analysis = Analysis.of(run([measured("before", 10.0), measured("before:twin", 10.0)], **RUN))
    (answer,) = analysis.headline.answers
    assert (answer.title, answer.lines) == (
        "after against before",
        ("not compared in any case: not measured, see below",),
    )
    failed = [measured("before", 10.0), samples("after", status=Status.DECLINED), crash(arm="after")]
    (answer,) = Analysis.of(run(failed, **RUN)).headline.answers
    assert answer.lines == ("not compared in any case: crash, declined, see below",)


def test_the_results_say_what_was_wrong_and_what_was_not_checked() -> None:
    def results(*lines: Line) -> str:
        return Analysis.of(run(lines, **RUN)).headline.results

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
