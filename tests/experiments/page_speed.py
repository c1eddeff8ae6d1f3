"""Measure how long Chromium takes to draw the page of a run. Takes about a minute.

python -m tests.experiments.page_speed
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Line
from nccl_bench.report.html.analysis_page import html_report
from tests.support.browser_page import Page, running_browser
from tests.support.chromium import find_chromium
from tests.support.synthetic_runs import ARMS, SIZES, case, run, sweep

_REFERENCE = Path(__file__).parents[2] / "results" / "h200-x2-all-reduce"
# An ordinary window, and one in which the whole page is in view, so that every chart is drawn at once.
_HEIGHTS = {"an ordinary window": 900, "the whole page": 40_000}
# A script that runs before those of the page. It notes when all charts in view are drawn, in ms from the
# request of the page.
_CLOCK = """
const look = () => {
  const near = [...document.querySelectorAll("figure")].filter(
    each => !each.hidden && each.getBoundingClientRect().top < innerHeight);
  if (document.readyState === "complete" && near.every(each => each.dataset.points)) window.drawn = performance.now();
  else requestAnimationFrame(look);
};
addEventListener("load", () => requestAnimationFrame(() => requestAnimationFrame(look)));
"""


def _large() -> Analysis:
    """Return the analysis of a made-up run of 10,000 cells: every collective with three data types."""
    lines: list[Line] = []
    for collective in COLLECTIVES:
        for dtype in ("bfloat16", "float16", "float32"):
            for size in SIZES:
                lines += sweep(ARMS, sizes=[size], case=case(size, collective, dtype=dtype))
    return Analysis.of(run(lines))


ANALYSES: Mapping[str, Callable[[], Analysis]] = {
    "default run": lambda: Analysis.of(Run.load(_REFERENCE)),
    "large run": _large,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    program = find_chromium()
    if program is None:
        raise SystemExit("no Chromium is installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as scratch, running_browser(program) as page:
        page.browser.call("Page.addScriptToEvaluateOnNewDocument", source=_CLOCK)
        for name, analyse in ANALYSES.items():
            analysis = analyse()
            started = perf_counter()
            text = html_report(analysis)
            rendered = perf_counter() - started
            file = Path(scratch) / f"{name.replace(' ', '-')}.html"
            file.write_text(text, encoding="utf-8")
            print(f"{name}: {len(analysis.rows):,} cells, {file.stat().st_size / 1e6:.2f} MB, made in {rendered:.2f} s")
            for window, height in _HEIGHTS.items():
                times = [_drawn(page, file, height) for _ in range(arguments.repeats)]
                print(f"  drawn, {window}: {median(times):.2f} s (at most {max(times):.2f} s)")


def _drawn(page: Page, file: Path, height: int) -> float:
    """Open the page, and return the seconds until the charts in view are drawn."""
    page.open(file, height=height)
    page.wait_for("window.drawn")
    return float(page.evaluate("window.drawn")) / 1e3


if __name__ == "__main__":
    main()
