"""Tests of texts that are made harmless: each trick loses its effect, and what was written stays readable."""

import json

import pytest

from nccl_bench.report.escaping import (
    annotation_text,
    annotation_title,
    csv_cell,
    json_escapes,
    markdown_block,
    markdown_code,
    markdown_text,
    visible,
)
from nccl_bench.report.formats import csv_text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("caf\u00e9 in all_reduce [red] <b>", "caf\u00e9 in all_reduce [red] <b>"),
        ("\x1b]8;;https://x\x1b\\text", r"\x1b]8;;https://x\x1b\text"),
        ("\x9b31m \x7f \x07", r"\x9b31m \x7f \x07"),
        ("a\u202eb\u2066c\u200bd\ufeff", r"a\u202eb\u2066c\u200bd\ufeff"),
        ("two\nlines\r\tand \udc80", "two\nlines\\r and \\udc80"),
    ],
)
def test_characters_that_nobody_sees_become_escapes(text: str, safe: str) -> None:
    assert visible(text) == safe
    assert visible(safe) == safe


def test_github_finds_no_command_in_a_line_of_a_terminal() -> None:
    text = "rank 0 raised:\n  ::error::a\n::set-output name=b::c\n##[warning]d\nstd::vector"
    assert visible(text) == ("rank 0 raised:\n  \\::error::a\n\\::set-output name=b::c\n# #[warning]d\nstd::vector")


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("see https://x.y or www.x.y", "see https\\://x.y or www\\.x.y"),
        ("![a](https://x)", "!\\[a\\](https\\://x)"),
        ("@octocat, team@x.y and #12", "@&#8203;octocat, team@&#8203;x.y and #&#8203;12"),
        ("&lt;b&gt; AT&T a & b", "\\&lt;b\\&gt; AT\\&T a & b"),
        ("a | `b|<c>`", "a \\| \\`b\\|\\<c>\\`"),
        (">quote", "\\>quote"),
        ("--- or ===", "\\--- or ==="),
        ("=== title", "\\=== title"),
        ("```sh\n$HOME\n```", "\\`\\``sh $HOME `\\`\\`"),
        ("`a``<b>`", "`a``<b>`"),
    ],
)
def test_markdown_loses_its_marks(text: str, safe: str) -> None:
    assert markdown_text(text) == safe


def test_code_is_not_ended_by_its_own_backticks() -> None:
    assert markdown_code("a `b`\n<c>") == "``a `b` <c>``"
    assert markdown_block("a\n```\n<b>\x1b", "sh") == ("````sh", "a", "```", "<b>\\x1b", "````")


def test_spreadsheets_find_no_formula_in_names_and_texts() -> None:
    assert [csv_cell(text) for text in ("=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "a;=1", "a=b-c")] == (
        ["'=1+1", "'+1", "'-1", "'@a", " '=1", "\\r=1", "a;'=1", "a=b-c"]
    )
    columns = {"=arm": ["=cmd", None, "torch"], "number": [-1.5, 2.0, None]}
    assert csv_text(columns, [columns]) == "'=arm,number\n'=cmd,-1.5\n,2\ntorch,\n"


def test_json_stays_the_same_document() -> None:
    document = json.dumps({"a": "\x9b \u202e \U0001f600 \x7f ##[error]"}, ensure_ascii=False)
    escaped = json_escapes(document)
    assert escaped.isascii()
    assert escaped.isprintable()
    assert "##[" not in escaped
    assert json.loads(escaped) == json.loads(document)


def test_an_annotation_is_one_line_that_ends_no_earlier_than_its_text() -> None:
    assert annotation_text("100 %\n::error::a\x1b") == "100 %25%0A::error::a\\x1b"
    assert annotation_title("a::b,\r\n") == "a%3A%3Ab%2C%0D%0A"
