"""Markdown that a pull request shows as it was meant."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from nccl_bench.analysis.comparison import of_run
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.schema import Line, Skipped
from nccl_bench.report import verdicts
from nccl_bench.report.comparison import Comparative
from nccl_bench.report.markdown import MarkdownReport, comparative
from nccl_bench.report.tables import CPU_NOTICE, measurement_tables
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


def cells(line: str) -> list[str]:
    """Of a table's line, as GitHub splits it: at pipes without a backslash."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables(text: str) -> dict[str, list[list[str]]]:
    """Every table under its title; a table ends at an empty line."""
    found = {}
    for match in re.finditer(
        r"^\*\*(?P<title>.+)\*\*\n(?:\n[^|\n<*-].*\n)*\n(?P<rows>(?:\|.*\n)+)", text, re.MULTILINE
    ):
        found[match["title"]] = [cells(line) for line in match["rows"].splitlines()]
    return found


def test_tables_have_as_many_cells_in_every_row() -> None:
    made_up = run(EVERYTHING)
    text = MarkdownReport().render(made_up)
    found = tables(text)
    told = verdicts.of_pairs(of_run(made_up))
    expected = [table.title for table in (*verdicts.tables(told), *measurement_tables(made_up))]
    assert list(found) == expected
    for header, rule, *rows in found.values():
        assert {len(header)} == {len(row) for row in (rule, *rows)}
        assert all(header)
        # Text flush left, numbers flush right.
        words = ("timing", "verdict")
        assert rule == ["---" if number == 0 or name in words else "---:" for number, name in enumerate(header)]
        assert rows
    # No pipe stands outside of them.
    assert sum(line.startswith("|") for line in text.splitlines()) == sum(map(len, found.values()))


def test_a_header_of_several_lines_is_one() -> None:
    (header, *_), *_ = [
        rows for title, rows in tables(MarkdownReport().render(run(EVERYTHING))).items() if "graph latency" in title
    ]
    assert header[0] == "size"
    assert header[1].startswith("dedicated-stream")
    assert "stream-free" in " ".join(header)
    few = [*sweep(sizes=(8,), timings=(Timing.GATED,)), samples("dedicated-stream:twin", case=case(8))]
    (floors, *_), *_ = tables(MarkdownReport().render(run(few))).values()
    assert floors == ["timing", "size", "verdict", "ratio", "interval", "noise floor"]


def test_a_pipe_within_a_cell_is_escaped() -> None:
    (one, *rest) = verdicts.tables(
        verdicts.of_pairs(of_run(run(sweep(arms=("dedicated-stream", "a-user arm"), sizes=(8,)), arms=["a-user arm"])))
    )
    assert rest == []
    text = MarkdownReport().render(run(sweep(arms=("dedicated-stream", "a-user arm"), sizes=(8,)), arms=["a-user arm"]))
    assert one.title in tables(text)
    lines = [samples(arm, case=case(8)) for arm in ("dedicated-stream", "a|b")]
    for header, *rows in tables(MarkdownReport().render(run(lines, arms=["a|b"]))).values():
        assert {len(row) for row in rows} == {len(header)}


def test_failures_and_what_is_missing_are_single_items() -> None:
    text = MarkdownReport().render(run(EVERYTHING))
    items = [line for line in text.splitlines() if line.startswith("- ")]
    for said in ("WRONG: ", "HANG: ", "CRASH: ", "skipped, its buffers"):
        assert sum(said in item for item in items) == 1
    assert "\n# no heading" not in text
    assert text.index("CRASH: ") < text.index("**Warnings**") < text.index("**Not measured**") < text.index("<details>")
    assert text.endswith("</details>\n")
    assert text.count("<details>") == text.count("</details>") == 1


def test_verdicts_come_first_and_hints_with_the_warnings() -> None:
    text = MarkdownReport().render(run(EVERYTHING))
    assert text.startswith("**nccl-bench made-up**: 4 ranks on cuda\n\nRatios below 1 are faster;")
    assert text.index("**Warnings**") < text.index("inconclusive for want of rounds") < text.index("<details>")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_cpu_s_figures_say_so(device: str) -> None:
    text = MarkdownReport().render(run(sweep(sizes=(8,)), device=device))
    assert (CPU_NOTICE in text.split("<details>")[0]) is (device == "cpu")


def test_a_gpu_is_named() -> None:
    made_up = run(sweep(sizes=(8,)))
    made_up.meta["environment"]["gpus"] = [{"name": "NVIDIA H200"}]
    assert "4 ranks on NVIDIA H200\n" in MarkdownReport().render(made_up)


def test_two_sides_are_verdicts_warnings_and_the_rest() -> None:
    told = verdicts.of_pairs(of_run(run(sweep())))
    known = {"title": "b against a.", "ground": "rounds", "reason": "rounds", "more": "More"}
    text = comparative(
        Comparative(
            **known,
            told=tuple(told),
            notes=("torch itself: 1.00x",),
            failures=("HANG: there",),
            warnings=("odd\nline",),
            unmatched=("before alone has x",),
            not_measured=("too large",),
        )
    )
    found = tables(text)
    assert list(found) == [table.title for table in verdicts.tables(told)]
    assert all(len({len(row) for row in rows}) == 1 for rows in found.values())
    assert text.startswith("**nccl-bench compare**: b against a.\n")
    assert "\n- odd line\n" in text
    assert "\n\ntorch itself: 1.00x\n\nRatios" in text
    assert text.index("**Failures**\n\n- HANG: there\n") < text.index("**Warnings**")
    assert text.endswith("**Not compared**\n\n- before alone has x\n\n**Not measured**\n\n- too large\n")
    assert "<details>" not in text
    bare = comparative(Comparative(**known, told=()))
    assert bare == "**nccl-bench compare**: b against a.\n"


def test_the_times_of_two_sides_are_folded_away_where_sizes_share_a_line() -> None:
    known: dict[str, Any] = {"title": "b against a.", "ground": "rounds", "reason": "rounds", "more": "More"}
    told = [
        replace(one, before_us=2.0, after_us=3.0, sides=("before", "after"))
        for one in verdicts.of_pairs(of_run(run(sweep(arms=("dedicated-stream", "torch"), timings=(Timing.GATED,)))))
    ]
    text = comparative(Comparative(**known, told=tuple(told)))
    shown, _, folded = text.partition("<details><summary>Figures</summary>\n\n")
    assert folded.endswith("\n\n</details>\n")
    assert " us |" not in shown
    ((header, _, *lines),) = tables(folded).values()
    assert header == ["timing", "size", "before us", "after us", "ratio"]
    assert len(lines) == len(SIZES)
    single = comparative(Comparative(**known, told=tuple(told[:1])))
    assert "<details>" not in single
    assert "| before us | after us |" in single
