"""The tests of pages find the faults that they look for: here each fault is planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.axe import violations
from tests.support.browser_page import Page

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A page</title>
<meta name="viewport" content="width=device-width"><main><h1>A page</h1>%s</main></html>"""


def _open(page: Page, directory: Path, content: str) -> None:
    file = directory / "page.html"
    file.write_text(_PAGE % content, encoding="utf-8")
    page.open(file)


def test_a_page_without_faults_has_no_complaint_no_request_and_no_violation(page: Page, tmp_path: Path) -> None:
    _open(page, tmp_path, "<p>Nothing is wrong.</p>")
    assert page.complaints() == []
    assert page.requested() == [(tmp_path / "page.html").as_uri()]
    assert violations(page) == []


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("<script>console.error('it', 'failed')</script>", "it failed"),
        ("<script>console.warn('old')</script>", "old"),
        ("<script>throw new Error('broken')</script>", "broken"),
        ("<script>Promise.reject(new Error('unseen'))</script>", "unseen"),
    ],
)
def test_an_error_in_the_console_is_found(page: Page, tmp_path: Path, fault: str, complaint: str) -> None:
    _open(page, tmp_path, fault)
    assert any(complaint in each for each in page.complaints())


@pytest.mark.parametrize(
    "fault", ["<img alt='' src='other.png'>", "<script>fetch('http://localhost:1/x').catch(() => 0)</script>"]
)
def test_a_request_is_found(page: Page, tmp_path: Path, fault: str) -> None:
    _open(page, tmp_path, fault)
    assert len(page.requested()) == 2


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("<p style='color: #aaa'>Pale text</p>", "color-contrast"),
        ("<button></button>", "button-name"),
        ("<input>", "label"),
        ("<canvas role='img'></canvas>", "role-img-alt"),
    ],
)
def test_axe_core_finds_a_barrier(page: Page, tmp_path: Path, fault: str, rule: str) -> None:
    _open(page, tmp_path, fault)
    assert [each.split(":")[0] for each in violations(page)] == [rule]


def test_keys_and_clicks_reach_the_page(page: Page, tmp_path: Path) -> None:
    _open(
        page,
        tmp_path,
        "<button id='first'>1</button><button id='second' onclick='this.textContent = \"clicked\"'>2</button>"
        "<a href='data:text/csv,a%2Cb' download='table.csv'>CSV</a>",
    )
    focused = "document.activeElement.id"
    page.press("Tab")
    assert page.evaluate(focused) == "first"
    page.press("Tab")
    assert page.evaluate(focused) == "second"
    page.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "clicked"
    page.press("Tab", shift=True)
    assert page.evaluate(focused) == "first"
    file = page.download(tmp_path, click="a")
    assert (file.name, file.read_text(encoding="utf-8")) == ("table.csv", "a,b")
