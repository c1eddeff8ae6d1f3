"""The page of a run, as a reader meets it: with a mouse, with a keyboard, and with a screen reader."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run
from nccl_bench.report.csv import csv_report
from nccl_bench.report.html.analysis_page import html_report
from nccl_bench.report.html.verification_page import verification_html
from nccl_bench.verify.judgement import Verification
from tests.support.axe import violations
from tests.support.browser_page import Page
from tests.support.findings import make_user_verification
from tests.support.synthetic_comparisons import compared_runs, comparison
from tests.support.synthetic_runs import case, crash, hang, run, samples, sweep, wrong

RESULTS = Path(__file__).parents[2] / "results"
ARM = "stream-free"
# The first chart of a section.
RATIO = "#ratio figure .plot"
# The windows and the themes in which pages are tried.
VIEWS = [(390, "light"), (1280, "dark")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A page in a file."""

    content: Analysis | Verification  # what the page shows
    file: Path  # the page

    @property
    def analysis(self) -> Analysis:
        """The analysis that the page shows."""
        assert isinstance(self.content, Analysis)
        return self.content


def _unusual() -> Analysis:
    """Return a run with failures, two collectives, and texts that look like HTML."""
    return Analysis.of(
        run(
            [
                *sweep(sizes=(8, 1024)),
                *(samples("dedicated-stream:twin", timing, case=case(1024)) for timing in Timing),
                *sweep(sizes=(2048,), case=case(2048, "all_to_all")),
                wrong(arm="torch", case=case(4096)),
                hang(case=case(8192)),
                crash(message="<img src=x onerror=console.error(1)> & 'quoted'"),
            ]
        )
    )


PAGES: dict[str, Callable[[Path], Analysis | Verification]] = {
    "a default run": lambda _: Analysis.of(Run.load(RESULTS / "h200-x2-all-reduce")),
    "failures": lambda _: _unusual(),
    "one arm": lambda _: Analysis.of(run(sweep(["dedicated-stream"], sizes=(8,)), arms=["dedicated-stream"])),
    "nothing": lambda _: Analysis.of(run([])),
    "a verification": lambda scratch: make_user_verification(scratch).verification,
    "two sides": lambda _: compared_runs([comparison(size, ratio=0.8) for size in (8, 1024, 2048)]),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    """Return each of ``PAGES`` in a file."""
    directory = tmp_path_factory.mktemp("pages")
    pages = {}
    for name, make in PAGES.items():
        content = make(directory)
        file = directory / f"{name.replace(' ', '-')}.html"
        text = html_report(content) if isinstance(content, Analysis) else verification_html(content)
        file.write_text(text, encoding="utf-8")
        pages[name] = Written(content=content, file=file)
    return pages


@pytest.fixture(scope="module")
def default(written: dict[str, Written]) -> Written:
    return written["a default run"]


def draw_all(page: Page, *, unfold: bool = True) -> None:
    """Bring every chart into view, so that it is drawn. Open all parts that the reader can unfold."""
    if unfold:
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    page.evaluate(
        "(async () => { for (const figure of document.querySelectorAll('figure')) {"
        "figure.scrollIntoView(); await new Promise(done => requestAnimationFrame(done)); } })()"
    )
    page.wait_for("[...document.querySelectorAll('figure:not([hidden])')].every(each => each.dataset.points)")


def open_at_ratio(page: Page, file: Path, theme: str = "light") -> None:
    """Open a page, and bring its first chart of ratios into view."""
    page.open(file, theme=theme)
    page.middle_of(RATIO)
    page.wait_for(f"document.querySelector('{RATIO}').closest('figure').dataset.points")


def pixels_of_arm(page: Page, arm: str, figure: str) -> int:
    """Return how many pixels of a chart have the colour of an arm. The chart must be drawn."""
    return int(
        page.evaluate(
            f"""(() => {{
            const data = JSON.parse(document.getElementById("data").textContent);
            const style = data.arms.find(arm => arm.name === {json.dumps(arm)}).style;
            const text = getComputedStyle(document.documentElement).getPropertyValue(`--line-${{style % 8}}`).trim();
            const [red, green, blue] = [1, 3, 5].map(at => parseInt(text.slice(at, at + 2), 16));
            const canvas = document.querySelector({json.dumps(figure)}).closest("figure").querySelector("canvas");
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            let count = 0;
            for (let at = 0; at < pixels.length; at += 4)
                if (pixels[at] === red && pixels[at + 1] === green && pixels[at + 2] === blue) count++;
            return count; }})()"""
        )
    )


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_error_asks_nobody_for_anything_and_is_small(
    page: Page, written: dict[str, Written], name: str
) -> None:
    file = written[name].file
    page.open(file)
    draw_all(page)
    assert page.complaints() == []
    assert page.requested() == [file.as_uri()]
    assert file.stat().st_size < 1_000_000


@pytest.mark.parametrize(("width", "theme"), VIEWS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_the_window_and_has_no_barriers(
    page: Page, written: dict[str, Written], name: str, width: int, theme: str
) -> None:
    page.open(written[name].file, width=width, theme=theme)
    # axe-core takes seconds for a thousand cells. The page of failures has all kinds of tables, and all colours.
    draw_all(page, unfold=name != "a default run")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if name in ("failures", "a verification") or theme == "light":
        assert violations(page) == []


def test_a_table_that_is_cut_says_so_until_its_end_is_seen(page: Page, default: Written) -> None:
    page.open(default.file, width=390)
    frames = "new Promise(seen => requestAnimationFrame(() => requestAnimationFrame(seen)))"
    boxes = "[...document.querySelectorAll('.scroll')].filter(each => each.checkVisibility())"
    cut = page.evaluate(f"{frames}.then(() => {boxes}.map(each => 'cut' in each.dataset))")
    wide = page.evaluate(f"{boxes}.map(each => each.scrollWidth > each.clientWidth + 4)")
    assert cut == wide
    last = f"{boxes}.at(-1)"
    assert page.evaluate(f"'cut' in {last}.dataset")
    page.evaluate(f"{last}.scrollLeft = 1e6")
    assert not page.evaluate(f"{frames}.then(() => 'cut' in {last}.dataset)")


def test_a_wide_window_has_charts_side_by_side(page: Page, default: Written) -> None:
    page.open(default.file, width=2560)
    draw_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 2560
    tops = page.evaluate(
        "[...document.querySelectorAll('#ratio figure')].map(each => each.getBoundingClientRect().top)"
    )
    assert len(set(tops)) == 1


def test_every_ratio_and_every_time_is_drawn(page: Page, default: Written) -> None:
    page.open(default.file)
    draw_all(page)
    points = {
        section: page.evaluate(
            f"[...document.querySelectorAll('#{section} figure')]"
            ".reduce((sum, each) => sum + Number(each.dataset.points), 0)"
        )
        for section in ("ratio", "saved", "latency")
    }
    timed = [row for row in default.analysis.rows if row.time_us and not str(row.arm).endswith(":twin")]
    compared = len(default.analysis.comparisons)
    assert points == {"ratio": compared, "saved": compared, "latency": len(timed)}
    for section in points:
        assert pixels_of_arm(page, ARM, f"#{section} .plot") > 50


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_of_the_system_is_followed_until_the_reader_chooses(page: Page, default: Written, theme: str) -> None:
    open_at_ratio(page, default.file, theme)
    dark = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] < 128"
    assert page.evaluate(dark) == (theme == "dark")
    assert pixels_of_arm(page, ARM, RATIO) > 50
    page.click("#theme")
    assert page.evaluate(dark) is False
    page.click("#theme")
    assert page.evaluate(dark) is True
    # A chart has the colours of the theme in which it was last drawn.
    page.wait_for("document.documentElement.dataset.theme === 'dark'")
    assert pixels_of_arm(page, ARM, RATIO) > 50
    page.click("#theme")


def test_the_mouse_shows_the_values_of_a_size(page: Page, default: Written) -> None:
    open_at_ratio(page, default.file)
    x, y = page.middle_of(RATIO)
    page.hover(x, y)
    page.wait_for(f"!document.querySelector('{RATIO} .tip').hidden")
    text = page.evaluate(f"document.querySelector('{RATIO} .tip').innerText")
    assert ARM in text
    shown = {f"{each.ratio:#.4g}" for each in default.analysis.comparisons if each.candidate == ARM}
    assert shown & set(text.replace("(", " ").split())


def test_the_arrow_keys_read_the_values_aloud(page: Page, default: Written) -> None:
    open_at_ratio(page, default.file)
    page.evaluate(f"document.querySelector('{RATIO}').focus()")
    spoken = f"document.querySelector('{RATIO}').closest('figure').querySelector('[aria-live]').textContent"
    first = page.evaluate(
        f"document.querySelector('{RATIO}').closest('figure').querySelector('figcaption :is(h3, h4)').textContent"
    )
    of_timing = [each for each in default.analysis.comparisons if each.timing == first and each.candidate == ARM]
    by_size = sorted(of_timing, key=lambda each: each.case.size_bytes)
    page.press("ArrowRight")
    assert page.evaluate(spoken).startswith("8 B: ")
    assert f"{ARM} {float(f'{by_size[0].ratio:.4g}'):g}" in page.evaluate(spoken)
    page.press("ArrowRight")
    assert page.evaluate(spoken).startswith("16 B: ")
    page.press("End")
    assert page.evaluate(spoken).startswith("1 GiB: ")
    assert f"{ARM} {float(f'{by_size[-1].ratio:.4g}'):g}" in page.evaluate(spoken)
    page.press("Home")
    assert page.evaluate(spoken).startswith("8 B: ")
    page.press("Escape")
    assert page.evaluate(f"document.querySelector('{RATIO} .tip').hidden") is True


def test_the_tab_key_reaches_everything_once_from_top_to_bottom(page: Page, default: Written) -> None:
    page.open(default.file)
    # Each stop is named by its position in the document.
    count = page.evaluate(
        "(window.stops = [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex=\"0\"]')]"
        ".filter(each => !each.hidden && each.offsetParent !== null || each.classList.contains('skip'))).length"
    )
    order = []
    for _ in range(count):
        page.press("Tab")
        order.append(page.evaluate("stops.indexOf(document.activeElement)"))
    # Scrolling parts of the page can be further stops.
    order = [stop for stop in order if stop >= 0]
    assert order[:8] == list(range(8))
    assert order == sorted(order)
    page.open(default.file)
    page.press("Tab")
    assert "answer" in page.evaluate("document.activeElement.hash")


def test_an_arm_is_switched_off_and_on_by_keyboard(page: Page, default: Written) -> None:
    open_at_ratio(page, default.file)
    before = pixels_of_arm(page, ARM, RATIO)
    page.evaluate(
        "[...document.querySelectorAll('#arms label')]"
        f".find(each => each.textContent.startsWith('{ARM}')).querySelector('input').focus()"
    )
    page.press(" ")
    page.wait_for("document.activeElement.checked === false")
    assert pixels_of_arm(page, ARM, RATIO) == 0
    page.press(" ")
    assert pixels_of_arm(page, ARM, RATIO) == before


def test_the_table_is_sorted_by_keyboard(page: Page, default: Written) -> None:
    page.open(default.file)
    page.evaluate(
        "[...document.querySelectorAll('.numbers th button')].find(each => each.textContent === 'time_us').focus()"
    )
    column = (
        "[...document.querySelectorAll('.numbers tbody tr')]"
        ".map(row => row.children[document.activeElement.closest('th').cellIndex].textContent).filter(Boolean)"
    )
    times = [float(f"{row.time_us:.6g}") for row in default.analysis.rows if row.time_us]
    for direction, extreme in (("ascending", min(times)), ("descending", max(times))):
        page.press("Enter")
        assert page.evaluate("document.activeElement.closest('th').ariaSort") == direction
        shown = [float(text) for text in page.evaluate(column)]
        assert shown == sorted(shown, reverse=direction == "descending")
        assert shown[0] == pytest.approx(extreme, rel=1e-3)


def test_the_fastest_arm_of_a_size_is_bold_with_its_time(page: Page, default: Written) -> None:
    page.open(default.file)
    row = "[...document.querySelectorAll('.times tbody tr')].find(row => row.cells[0].textContent === '1 MiB')"
    assert page.evaluate(f"{row}.querySelector('b').textContent") == "16.3"
    column = page.evaluate(f"{row}.querySelector('b').parentElement.cellIndex")
    heading = page.evaluate(f"document.querySelector('.times thead tr').cells[{column}].innerText")
    assert heading == ARM
    # A hidden arm has no column.
    page.evaluate(f"[...document.querySelectorAll('#arms label')].find(each => each.innerText === '{ARM}').click()")
    assert page.evaluate(f"{row}.querySelector('b').textContent") == "23.6"


def test_the_downloaded_csv_has_the_rows_of_summary_csv(page: Page, default: Written, tmp_path: Path) -> None:
    page.open(default.file)
    page.evaluate(
        "[...document.querySelectorAll('.numbers button')].find(each => /CSV/.test(each.textContent)).id = 'save'"
    )
    file = page.download(tmp_path, click="#save")
    assert file.suffix == ".csv"
    downloaded = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    expected = list(csv.DictReader(io.StringIO(csv_report(default.analysis))))
    assert len(downloaded) == len(expected)
    for ours, theirs in zip(downloaded, expected, strict=True):
        # Columns without any value are left out.
        assert {name for name, value in theirs.items() if value} <= set(ours)
        for name, value in ours.items():
            assert value == theirs[name] or float(value) == pytest.approx(float(theirs[name]), rel=1e-5)


def test_a_screen_reader_meets_one_heading_of_first_rank_and_named_regions(page: Page, default: Written) -> None:
    page.open(default.file)
    draw_all(page, unfold=False)
    nodes = page.accessible_nodes()
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes]
    levels = [
        (next(each["value"]["value"] for each in node["properties"] if each["name"] == "level"), node["name"]["value"])
        for node in nodes
        if node["role"]["value"] == "heading"
    ]
    assert [level for level, _ in levels].count(1) == 1
    # No level is left out on the way down.
    assert all(after <= before + 1 for (before, _), (after, _) in itertools.pairwise(levels))
    assert {"banner", "navigation", "main", "contentinfo"} <= {role for role, _ in roles}
    named = ("button", "link", "checkbox", "searchbox", "combobox", "region", "application", "table")
    assert [role for role, name in roles if role in named and not name] == []
    charts = [name for role, name in roles if role == "application"]
    assert len(charts) == page.evaluate("document.querySelectorAll('figure').length")
    assert len(set(charts)) == len(charts)
    assert "stream-free: 0.655 at 8 B, 1.003 at 1 GiB, from 0.655 to 1.009." in charts[0]
