"""Markdown for a pull request."""

from __future__ import annotations

import re

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Line, Skipped
from nccl_bench.report.formats import markdown_text
from nccl_bench.report.markdown import MOST_CHARACTERS, markdown_report
from nccl_bench.report.tables import measurement_tables
from nccl_bench.report.verdicts import time_tables, verdict_tables
from tests.support.synthetic_comparisons import compared_runs, comparison
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
    assert list(by_title)[1:] == expected
    assert next(iter(by_title)) == "Verdicts"
    for header, rule, *rows in by_title.values():
        assert {len(header)} == {len(row) for row in (rule, *rows)}
        assert all(header)
        # Text is flush left, and numbers are flush right.
        words = ("arm", "arms", "timing", "verdict", "change", "a call")
        is_compact = "a call" in header
        assert rule == [
            "---" if number == 0 or name in words or is_compact else "---:" for number, name in enumerate(header)
        ]
        assert rows
    # No pipe stands outside of the tables.
    assert sum(line.startswith("|") for line in text.splitlines()) == sum(map(len, by_title.values()))


def test_a_header_of_several_lines_is_one() -> None:
    (header, *_), *_ = [rows for title, rows in tables(rendered(run(EVERYTHING))).items() if "graph latency" in title]
    assert header[0] == "size"
    assert header[1].startswith("dedicated-stream")
    assert "stream-free" in " ".join(header)


def test_a_pipe_within_a_cell_is_escaped() -> None:
    lines = [samples(arm, case=case(8)) for arm in ("dedicated-stream", "a|b")]
    for header, *rows in tables(rendered(run(lines, arms=["a|b"]))).values():
        assert {len(row) for row in rows} == {len(header)}


def test_failures_stand_above_everything_and_what_is_missing_is_folded() -> None:
    text = rendered(run(EVERYTHING))
    items = [line for line in text.splitlines() if line.startswith("- ")]
    for text_of_item in ("**WRONG: ", "**HANG: ", "**CRASH: ", "skipped, its buffers"):
        assert sum(text_of_item in item for item in items) == 1
    assert "\n# no heading" not in text
    assert text.index("**CRASH: ") < text.index("| arms |") < text.index("<details>")
    assert (
        text.index("<summary>Warnings (")
        < text.index("<summary>Not measured (1)")
        < text.index("<summary>Notes and figures")
    )
    assert text.endswith("</details>\n")


def test_a_folded_block_has_empty_lines_around_its_markdown() -> None:
    lines = rendered(run(EVERYTHING)).splitlines()
    opened = [number for number, line in enumerate(lines) if line.startswith("<details><summary>")]
    closed = [number for number, line in enumerate(lines) if line == "</details>"]
    assert len(opened) == len(closed) > 3
    assert all(first < last for first, last in zip(opened, closed, strict=True))
    assert all(lines[number + 1] == "" for number in opened)
    assert all(lines[number - 1] == "" for number in closed)


def test_the_headline_and_one_table_come_first() -> None:
    text = rendered(run(EVERYTHING))
    shown, _, folded = text.partition("<details>")
    assert text.startswith("**nccl-bench**: ")
    assert "- **OPEN** " in shown
    assert len(tables(shown)) == 1
    assert "Ratios below 1 are faster;" in folded
    assert "open because of too few rounds" in folded


def test_a_long_table_of_verdicts_is_folded_too() -> None:
    cells = [comparison(8 * 2**step, (Verdict.FASTER, Verdict.SLOWER)[step % 2], 1.5) for step in range(60)]
    shown, _, folded = markdown_report(compared_runs(cells)).partition("<details>")
    assert tables(shown) == {}
    assert folded.startswith("<summary>Verdicts by band of sizes</summary>\n\n")


def test_what_does_not_fit_in_a_comment_is_left_out_and_named() -> None:
    cells = [comparison(8 * (step + 1), (Verdict.FASTER, Verdict.SLOWER)[step % 2], 1.5) for step in range(800)]
    text = markdown_report(compared_runs(cells, warnings=("w",), title="b against a"))
    assert len(text) <= MOST_CHARACTERS
    assert "<summary>Warnings (" in text
    assert text.count("<details>") == text.count("</details>")
    assert text.splitlines()[-1].endswith(
        '"Verdicts in detail", "Notes and figures". `--to page.html` makes a page with everything.'
    )


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("all_reduce of my_arm", "all_reduce of my_arm"),
        ("_private_ and __init__", "\\_private\\_ and \\_\\_init\\_\\_"),
        ("a*b* <img> [x](y) ~~z~~", "a\\*b\\* \\<img> \\[x\\](y) \\~\\~z\\~\\~"),
        ("# no heading", "\\# no heading"),
        ("1. no list", "1\\. no list"),
        ("- no list", "\\- no list"),
        ("> 2 %", "\\> 2 %"),
        ("`run --resume a_b_` measures *them*", "`run --resume a_b_` measures \\*them\\*"),
        ("one ` alone", "one \\` alone"),
        ("back\\slash", "back\\\\slash"),
        ("1.25x, -3 %", "1.25x, -3 %"),
    ],
)
def test_names_are_shown_as_they_are(text: str, safe: str) -> None:
    assert markdown_text(text) == safe


def test_a_command_is_a_block_of_code_that_its_own_backticks_do_not_end() -> None:
    made_up = run(sweep(sizes=(8,)))
    made_up.meta["command"] = ["nccl-bench", "run", "--env", "A=```"]
    text = rendered(made_up)
    assert "\n````sh\nnccl-bench run --env 'A=```'\n````\n" in text


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_cpu_run_has_a_notice_above_the_figures(device: str) -> None:
    text = rendered(run(sweep(sizes=(8,)), device=device))
    assert (DEVICES["cpu"].figures_notice in text) is (device == "cpu")


def test_the_title_of_a_run_is_the_first_note() -> None:
    assert "<summary>Notes and figures</summary>\n\nmade-up: 4 ranks on cuda, " in rendered(run(sweep(sizes=(8,))))


def test_a_gpu_is_named() -> None:
    made_up = run(sweep(sizes=(8,)))
    made_up.meta["environment"]["gpus"] = [{"name": "NVIDIA H200"}]
    assert "H200" in rendered(made_up).splitlines()[0]


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
    assert list(tables(text))[1:] == [table.title for table in (*verdict_tables(analysis), *time_tables(analysis))]
    assert all(len({len(row) for row in rows}) == 1 for rows in tables(text).values())
    assert text.startswith("**nccl-bench**: b against a")
    assert "\n- **HANG: there**\n" in text.partition("|")[0]
    assert "<summary>Warnings (" in text
    assert "\n- odd line\n" in text
    assert "<summary>Not compared (1)</summary>\n\n- missing after the change: x\n" in text
    assert "<summary>Not measured (1)</summary>\n\n- too large\n" in text
    assert "<summary>Notes and figures</summary>\n\ntorch itself: 1.00x\n\n" in text
    assert markdown_report(compared_runs([], title="b against a.")).startswith("**nccl-bench**: b against a")
