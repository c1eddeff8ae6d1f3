"""The picture of an analysis: well-formed, complete, and safe with any text."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import resources
from itertools import pairwise
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run
from nccl_bench.report.charts.chart import Scale
from nccl_bench.report.svg.axis import Axis
from nccl_bench.report.svg.report import svg_report
from nccl_bench.report.svg.style import DARK, LIGHT
from tests.support.snapshots import CheckSnapshot
from tests.support.synthetic_comparisons import compared_runs, comparison
from tests.support.synthetic_runs import SIZES, case, crash, run, samples, sweep, wrong

REFERENCE = Path(__file__).parents[3] / "results" / "h200-x2-all-reduce"
_SVG = "{http://www.w3.org/2000/svg}"
_TWINS = [samples("dedicated-stream:twin", timing, case=case(size)) for timing in Timing for size in SIZES]
ANALYSES = {
    "a sweep": lambda: Analysis.of(run([*sweep(), *_TWINS])),
    "two collectives": lambda: Analysis.of(run([*sweep(), *sweep(sizes=[1024], case=case(1024, "all_gather"))])),
    "one size": lambda: Analysis.of(run(sweep(sizes=[1024]))),
    "one arm": lambda: Analysis.of(run(sweep(["dedicated-stream"]), arms=["dedicated-stream"])),
    "times of 0": lambda: Analysis.of(run([samples(timing=Timing.ENQUEUE, samples_us=(0.0,))], arms=["stream-free"])),
    "only failures": lambda: Analysis.of(run([crash(), wrong(arm="torch")])),
    "nothing": lambda: Analysis.of(run([])),
    "two sides": lambda: compared_runs([comparison(size, ratio=0.8) for size in (8, 1024, 2048)]),
    "two sides with nothing in common": lambda: compared_runs(),
    "equal times": lambda: compared_runs([comparison(8), comparison(16)]),
    "no intervals": lambda: compared_runs([comparison(8, verdict=None, interval=None)]),
}


def picture(analysis: Analysis) -> Element:
    return fromstring(svg_report(analysis))


def texts(root: Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{_SVG}text")]


@pytest.mark.parametrize("name", ANALYSES)
def test_a_picture_is_complete_for_every_kind_of_analysis(name: str) -> None:
    analysis = ANALYSES[name]()
    root = picture(analysis)
    title = analysis.headline.title or analysis.title
    assert [root.findtext(f"{_SVG}title"), root.get("role")] == [title, "img"]
    assert root.get("aria-labelledby") == "title desc"
    description = root.findtext(f"{_SVG}desc") or ""
    assert all(line.text in description for line in analysis.headline.lines)
    assert all(problem in description for problem in analysis.headline.problems)
    assert "nan" not in svg_report(analysis).lower().replace("roboto", "")
    # Everything lies on the paper.
    width, height = (float(root.get(side, "0")) for side in ("width", "height"))
    for element in root.iter(f"{_SVG}text"):
        assert 0 <= float(element.get("x", "-1")) <= width
        assert 0 <= float(element.get("y", "-1")) <= height


def test_the_picture_in_the_readme_is_what_the_command_draws(snapshot: CheckSnapshot) -> None:
    snapshot(REFERENCE / "chart.svg", svg_report(Analysis.of(Run.load(REFERENCE))))


def test_every_ratio_has_a_mark_inside_its_plot() -> None:
    analysis = ANALYSES["a sweep"]()
    plots = list(picture(analysis).iter(f"{_SVG}svg"))[1:]
    ratios = plots[: len(Timing)]
    marks = 0
    for plot in ratios:
        width, height = (float(plot.get(side, "0")) for side in ("width", "height"))
        for path in plot.iter(f"{_SVG}path"):
            if re.fullmatch(r"c\d+f", path.get("class", "")):
                points = re.findall(r"M([\d.]+) ([\d.]+)m", path.get("d", ""))
                assert all(0 < float(x) < width and 0 < float(y) < height for x, y in points)
                marks += len(points)
    assert marks == len(analysis.comparisons)


def test_a_gap_in_the_sizes_is_a_gap_in_the_line() -> None:
    comparisons = [comparison(size, ratio=0.9) for size in (8, 16, 64, 128)]
    of_torch = [comparison(size, ratio=0.8, candidate="torch") for size in (8, 16, 32, 64, 128)]
    plot = list(picture(compared_runs([*comparisons, *of_torch])).iter(f"{_SVG}svg"))[1]
    lines = [path.get("d", "") for path in plot.iter(f"{_SVG}path") if path.get("class", "").startswith("line")]
    assert [line.count("M") for line in lines] == [2, 1]


def test_the_arms_in_question_alone_are_drawn() -> None:
    analysis = replace(ANALYSES["a sweep"](), asked_arms=("torch",))
    assert "torch" in texts(picture(analysis))
    assert "stream-free" not in texts(picture(analysis))


def test_texts_are_escaped_and_characters_that_xml_forbids_are_replaced() -> None:
    message = "<script>alert('1')</script> & \x1b[31mred\x00 \ud800"
    root = picture(Analysis.of(run([crash(message=message), samples()])))
    shown = " ".join(texts(root))
    assert "<script>alert('1')</script> &" in shown
    assert list(root.iter(f"{_SVG}script")) == []
    assert not {"\x1b", "\x00", "\ud800"} & {*shown, *(root.findtext(f"{_SVG}desc") or "")}


def test_many_long_problems_leave_room_for_the_charts() -> None:
    crashes = [crash(arm=f"arm-{number}", message="word " * 200) for number in range(40)]
    root = picture(Analysis.of(run([*sweep(sizes=[1024]), *crashes])))
    shown = [element.text or "" for element in root.iter(f"{_SVG}text") if element.get("class") == "problem"]
    assert len(shown) == 4 * 3 + 1
    assert re.fullmatch(r"and \d+ problems more", shown[-1])
    assert shown[2].endswith(" ...")


def test_a_picture_loads_nothing_and_has_colours_for_dark_pages() -> None:
    text = svg_report(ANALYSES["a sweep"]())
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert "href" not in text
    assert "@media(prefers-color-scheme:dark)" in text


@pytest.mark.parametrize(
    ("scale", "low", "high", "labels"),
    [
        (Scale.LOG, 0.68, 1.1, ["0.7", "0.8", "0.9", "1", "1.1"]),
        (Scale.LOG, 0.2, 3.0, ["0.2", "0.5", "1", "2"]),
        (Scale.LOG, 0.6, 3.2, ["0.7", "1", "1.5", "2", "3"]),
        (Scale.LOG, 5.0, 4000.0, ["10", "30", "100", "300", "1,000", "3,000"]),
        (Scale.SIGNED_LOG, -1.0, 5.0, ["-1", "0", "1", "2", "5"]),
        (Scale.SIGNED_LOG, -400.0, 700.0, ["-100", "-10", "0", "10", "100"]),
        (Scale.LINEAR, 0.0, 460.0, ["0", "100", "200", "300", "400"]),
    ],
)
def test_labels_are_round_values_that_keep_their_distance(
    scale: Scale, low: float, high: float, labels: list[str]
) -> None:
    axis = Axis(scale=scale, low=low, high=high, start=0, end=140)
    chosen = axis.labels(18)
    assert [text for _, text in chosen] == labels
    pixels = [axis.pixel(value) for value, _ in chosen]
    assert all(after - before >= 18 for before, after in pairwise(pixels))


@pytest.mark.parametrize(
    ("sizes", "labels"),
    [
        ([8 << step for step in range(28)], ["32 B", "1 KiB", "32 KiB", "1 MiB", "32 MiB", "1 GiB"]),
        ([8, 1024, 4096], ["16 B", "64 B", "256 B", "1 KiB", "4 KiB"]),
        ([3072, 4098], ["3 KiB", "4098 B"]),
    ],
)
def test_labels_of_sizes_are_round(sizes: list[int], labels: list[str]) -> None:
    axis = Axis(scale=Scale.SIZE, low=sizes[0], high=sizes[-1], start=0, end=300)
    assert [text for _, text in axis.labels(52, sizes)] == labels


@pytest.mark.parametrize(("colours", "scheme"), [(LIGHT, "light"), (DARK, "dark")])
def test_lines_have_the_colours_of_the_page(colours: tuple[str, ...], scheme: str) -> None:
    sheet = (resources.files("nccl_bench.report.html") / "assets" / "page.css").read_text(encoding="utf-8")
    of_scheme = sheet[sheet.index(f"color-scheme: {scheme};") :]
    assert tuple(re.findall(r"--line-\d+: (#[0-9a-f]{6})", of_scheme)[: len(colours)]) == colours
