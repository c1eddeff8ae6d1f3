"""Markdown for a pull request."""

from __future__ import annotations

import re

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Line, Skipped
from nccl_bench.report.markdown import markdown_report
from nccl_bench.report.tables import measurement_tables
from nccl_bench.report.verdicts import time_tables, verdict_tables
from tests.support.synthetic_comparisons import compared_runs
from tests.support.synthetic_runs import SIZES, case, crash, hang, per_iteration, run, samples, sweep, wrong

EVERYTHING: list[Line] = [
    *sweep(),
    *(samples("dedicated-stream:twin", case=case(size)) for size in SIZES),
    *sweep(timings=(Timing.GATED,), case=case(2048, "all_to_all"), per_iteration=per_iteration(), sizes=(2048,)),
    wrong(arm="torch", case=case(3072)),
    hang(case=case(4098)),
    crash(case=None, message="a | b\n# no heading\n" + "x" * 300),
    Skipped(case=case(2**34), reason="its buffers | do not fit"),
]


def rendered(made_up: Run) -> str:
    return markdown_report(Analysis.of(made_up))


def cells(line: str) -> list[str]:
    """Return the cells of a line, split at pipes without a backslash, as GitHub does."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables(text: str) -> dict[str, list[list[str]]]:
    """Return every table by its title; a table ends at an empty line."""
    by_title = {}
    for match in re.finditer(
        r"^\*\*(?P<title>.+)\*\*\n(?:\n[^|\n<*-].*\n)*\n(?P<rows>(?:\|.*\n)+)", text, re.MULTILINE
    ):
        by_title[match["title"]] = [cells(line) for line in match["rows"].splitlines()]
    return by_title


def test_tables_have_as_many_cells_in_every_row() -> None:
    analysis = Analysis.of(run(EVERYTHING))
    text = markdown_report(analysis)
    by_title = tables(text)
    expected = [table.title for table in (*verdict_tables(analysis), *measurement_tables(analysis))]
    assert list(by_title) == expected
    for header, rule, *rows in by_title.values():
        assert {len(header)} == {len(row) for row in (rule, *rows)}
        assert all(header)
        # Text is flush left, and numbers are flush right.
        words = ("arm", "timing", "verdict")
        assert rule == ["---" if number == 0 or name in words else "---:" for number, name in enumerate(header)]
        assert rows
    # No pipe stands outside of the tables.
    assert sum(line.startswith("|") for line in text.splitlines()) == sum(map(len, by_title.values()))


def test_a_header_of_several_lines_is_one() -> None:
    (header, *_), *_ = [rows for title, rows in tables(rendered(run(EVERYTHING))).items() if "graph latency" in title]
    assert header[0] == "size"
    assert header[1].startswith("dedicated-stream")
    assert "stream-free" in " ".join(header)
    few = [*sweep(sizes=(8,), timings=(Timing.GATED,)), samples("dedicated-stream:twin", case=case(8))]
    (floors, *_), *_ = tables(rendered(run(few))).values()
    assert floors == ["arm", "timing", "size", "verdict", "ratio", "interval", "noise floor"]


def test_a_pipe_within_a_cell_is_escaped() -> None:
    lines = [samples(arm, case=case(8)) for arm in ("dedicated-stream", "a|b")]
    for header, *rows in tables(rendered(run(lines, arms=["a|b"]))).values():
        assert {len(row) for row in rows} == {len(header)}


def test_failures_and_what_is_missing_are_single_items() -> None:
    text = rendered(run(EVERYTHING))
    items = [line for line in text.splitlines() if line.startswith("- ")]
    for text_of_item in ("WRONG: ", "HANG: ", "CRASH: ", "skipped, its buffers"):
        assert sum(text_of_item in item for item in items) == 1
    assert "\n# no heading" not in text
    assert text.index("CRASH: ") < text.index("**Warnings**") < text.index("**Not measured**") < text.index("<details>")
    assert text.endswith("</details>\n")
    assert text.count("<details>") == text.count("</details>") == 1


def test_verdicts_come_first_and_hints_with_the_warnings() -> None:
    text = rendered(run(EVERYTHING))
    assert text.startswith("**nccl-bench**: made-up: 4 ranks on cuda, ")
    assert text.index("Ratios below 1 are faster;") < text.index("| timing |")
    assert text.index("**Warnings**") < text.index("inconclusive because of too few rounds") < text.index("<details>")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_cpu_run_has_a_notice_above_the_figures(device: str) -> None:
    text = rendered(run(sweep(sizes=(8,)), device=device))
    assert (DEVICES["cpu"].figures_notice in text.split("<details>")[0]) is (device == "cpu")


def test_a_gpu_is_named() -> None:
    made_up = run(sweep(sizes=(8,)))
    made_up.meta["environment"]["gpus"] = [{"name": "NVIDIA H200"}]
    assert "4 ranks on NVIDIA H200, " in rendered(made_up)


def test_two_sides_are_verdicts_warnings_and_the_rest() -> None:
    comparisons = Analysis.of(run(sweep())).comparisons
    analysis = compared_runs(
        comparisons,
        title="b against a.",
        notes=("torch itself: 1.00x",),
        failures=("HANG: there",),
        warnings=("odd\nline",),
        not_compared=("missing after the change: x",),
        not_measured=("too large",),
    )
    text = markdown_report(analysis)
    shown, _, folded = text.partition("<details><summary>Figures</summary>\n\n")
    assert list(tables(shown)) == [table.title for table in verdict_tables(analysis)]
    assert list(tables(folded)) == [table.title for table in time_tables(analysis)]
    assert all(len({len(row) for row in rows}) == 1 for rows in tables(text).values())
    assert text.startswith("**nccl-bench**: b against a.\n")
    assert "\n- odd line\n" in text
    assert "\n\ntorch itself: 1.00x\n\nVerdicts. Ratios" in text
    assert text.index("**Failures**\n\n- HANG: there\n") < text.index("torch itself")
    assert shown.endswith("**Not compared**\n\n- missing after the change: x\n\n**Not measured**\n\n- too large\n\n")
    bare = markdown_report(compared_runs([], title="b against a."))
    assert bare.startswith("**nccl-bench**: b against a.\n")


def test_the_times_of_two_sides_are_folded_away() -> None:
    comparisons = Analysis.of(run(sweep(arms=("dedicated-stream", "torch"), timings=(Timing.GATED,)))).comparisons
    text = markdown_report(compared_runs(comparisons))
    shown, _, folded = text.partition("<details><summary>Figures</summary>\n\n")
    assert folded.endswith("\n\n</details>\n")
    assert " us |" not in shown
    ((header, _, *lines),) = tables(folded).values()
    assert header == ["timing", "size", "before us", "after us", "ratio"]
    assert len(lines) == len(SIZES)
