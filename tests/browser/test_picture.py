"""The picture of a run or of a comparison, drawn by a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.report.svg.report import svg_report
from tests.support.browser_page import Page
from tests.support.synthetic_comparisons import compared_runs, comparison
from tests.support.synthetic_runs import ALL_ARMS, case, crash, run, sweep

LONG = "an-arm-with-a-name-that-is-much-longer-than-others"
PICTURES: dict[str, Callable[[], Analysis]] = {
    "seven arms, two collectives and a crash": lambda: Analysis.of(
        run(
            [
                *sweep(ALL_ARMS),
                *sweep(sizes=(1024,), case=case(1024, "all_to_all")),
                crash(message="of rank 1: " + "word " * 60),
            ],
            arms=[*ALL_ARMS],
        )
    ),
    "one size": lambda: Analysis.of(run(sweep(sizes=(1024,)))),
    "sizes of a model": lambda: compared_runs(
        [comparison(tokens * 7168 * 2, ratio=1 + tokens / 90, candidate=LONG) for tokens in range(1, 40)]
    ),
}
# All pairs of texts that cover each other, and all texts that leave the paper, as the browser draws them.
_MISPLACED = """(() => {
  const paper = document.documentElement.getBoundingClientRect();
  const texts = [...document.querySelectorAll("text")].map(each => [each.textContent, each.getBoundingClientRect()]);
  const found = texts.filter(([, box]) => box.left < 0 || box.right > paper.width || box.bottom > paper.height)
    .map(([text]) => text);
  texts.forEach(([text, a], at) => texts.slice(at + 1).forEach(([other, b]) => {
    if (a.left < b.right && b.left < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom)
      found.push(`${text} / ${other}`);
  }));
  return found;
})()"""
# The least contrast between the paper and a line, a mark or a text.
_CONTRAST = """(() => {
  const light = color => color.match(/[\\d.]+/g).slice(0, 3).map(each => each / 255)
    .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, at) => sum + each * [0.2126, 0.7152, 0.0722][at], 0);
  const paper = light(getComputedStyle(document.querySelector(".paper")).fill);
  const contrast = color => (Math.max(light(color), paper) + 0.05) / (Math.min(light(color), paper) + 0.05);
  const least = (selector, part) => Math.min(...[...document.querySelectorAll(selector)]
    .map(each => contrast(getComputedStyle(each)[part])));
  return [least("text", "fill"), least("path.line", "stroke")];
})()"""


@pytest.mark.parametrize("name", PICTURES)
def test_texts_of_a_picture_lie_on_the_paper_and_do_not_cover_each_other(page: Page, tmp_path: Path, name: str) -> None:
    file = tmp_path / "chart.svg"
    file.write_text(svg_report(PICTURES[name]()), encoding="utf-8")
    page.open(file)
    assert page.complaints() == []
    assert page.requested() == [file.as_uri()]
    assert page.evaluate(_MISPLACED) == []


@pytest.mark.parametrize(("theme", "paper"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(13, 17, 23)")])
def test_a_picture_can_be_read_in_both_themes(page: Page, tmp_path: Path, theme: str, paper: str) -> None:
    file = tmp_path / "chart.svg"
    file.write_text(svg_report(Analysis.of(run(sweep(ALL_ARMS), arms=[*ALL_ARMS]))), encoding="utf-8")
    page.open(file, theme=theme)
    assert page.evaluate("getComputedStyle(document.querySelector('.paper')).fill") == paper
    texts, lines = page.evaluate(_CONTRAST)
    assert texts >= 4.5
    assert lines >= 3


def test_a_screen_reader_meets_a_picture_with_a_name_and_the_headline(page: Page, tmp_path: Path) -> None:
    analysis = Analysis.of(run(sweep()))
    file = tmp_path / "chart.svg"
    file.write_text(svg_report(analysis), encoding="utf-8")
    page.open(file)
    (picture,) = [node for node in page.accessible_nodes() if node["role"]["value"] in ("img", "image")]
    assert analysis.headline.title in picture["name"]["value"]
    assert analysis.headline.lines[0].text in picture["name"]["value"]
