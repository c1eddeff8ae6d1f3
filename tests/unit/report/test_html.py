"""The page of a run or of a comparison: its sections, its data, and that no text of a record becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.compared_runs import analyse_sides
from nccl_bench.analysis.loading import load_run
from nccl_bench.analysis.summary import COLUMNS
from nccl_bench.analysis.wording import format_share
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits
from nccl_bench.records.run import Run
from nccl_bench.report.html.analysis_page import html_report
from tests.support.compare_command import write
from tests.support.synthetic_comparisons import compared_runs
from tests.support.synthetic_runs import ARMS, SIZES, case, crash, gpus, hang, run, samples, sweep, wrong

REFERENCE = Path(__file__).parents[3] / "results" / "h200-x2-all-reduce"
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;'\""
SECTIONS = [
    "answer",
    "times",
    "ratio",
    "saved",
    "latency",
    "cost",
    "steady",
    "bandwidth",
    "results",
    "environment",
    "numbers",
]


class Elements(HTMLParser):
    """Collects the elements of a page, and the text of its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data

    @property
    def data(self) -> dict[str, Any]:
        """The data that the page draws."""
        content: dict[str, Any] = json.loads(self.scripts[0])
        return content

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(made_up: Run) -> Elements:
    return Elements(html_report(Analysis.of(made_up)))


def test_the_sections_are_in_the_order_of_questions() -> None:
    page = page_of(run(sweep(sizes=(8, 2**21), gpus=gpus())))
    assert [attributes["id"] for attributes in page.named("section")] == SECTIONS
    links = [str(attributes.get("href")) for attributes in page.named("a")]
    assert links[1:] == [f"#{name}" for name in SECTIONS]


def test_a_chart_has_a_value_for_each_size_and_arm() -> None:
    charts = page_of(run(sweep(gpus=gpus()))).data["charts"]
    (ratios,), (latencies,) = charts["ratio"], charts["latency"]
    assert [chart["title"] for chart in ratios] == [chart["title"] for chart in latencies] == [*Timing]
    for chart in latencies:
        assert chart["positions"] == list(SIZES)
        assert {line["label"] for line in chart["lines"]} == set(ARMS)
        assert all(len(line[key]) == len(SIZES) for line in chart["lines"] for key in ("values", "low", "high"))
    assert all("dedicated-stream" not in [line["label"] for line in chart["lines"]] for chart in ratios)
    # Nine rounds of each size.
    assert all(len(chart["positions"]) == 9 * len(SIZES) for chart in charts["rounds"][0])


def test_ratios_have_a_threshold_and_the_twins_noise_floor() -> None:
    lines = [*sweep(), *sweep(arms=("dedicated-stream",))]
    twins = [samples("dedicated-stream:twin", line.timing, case=line.case) for line in lines if hasattr(line, "timing")]
    (ratios,) = page_of(run([*sweep(), *twins])).data["charts"]["ratio"]
    assert {tuple(shade["shading"] for shade in chart.get("shades", ())) for chart in ratios} <= {
        ("threshold", "noise floor"),
        ("threshold",),
    }
    assert ratios[0]["shades"][0]["low"] == [0.98] * len(SIZES)


def test_charts_and_bands_have_the_same_noise_floors() -> None:
    analysis = Analysis.of(Run.load(REFERENCE))
    (ratios,) = Elements(html_report(analysis)).data["charts"]["ratio"]
    for chart in ratios:
        floors = [band.noise_floor for band in analysis.bands if band.timing == chart["title"]]
        known = [floor for floor in floors if floor is not None]
        (shade,) = [each for each in chart["shades"] if each["shading"] == "noise floor"]
        shares = dict.fromkeys(map(format_share, (min(known), max(known))))
        assert shade["label"] == f"noise floor: {' to '.join(shares)}"
        assert max(shade["high"]) == pytest.approx(1 + max(known), rel=1e-3)


def test_charts_of_two_sides_name_the_arm_to_which_times_are_relative(tmp_path: Path) -> None:
    sides = [load_run(write(tmp_path / name, sweep())) for name in ("first", "second")]
    analysis = analyse_sides(sides[:1], sides[1:], None, "dedicated-stream", Limits(default=0.02), allow_mismatch=True)
    page = html_report(analysis)
    (ratios,) = Elements(page).data["charts"]["ratio"]
    assert ratios[0]["y_label"] == "after / before, of the ratio to dedicated-stream, below 1 is faster"
    # The times of the shared arm show what the machine did.
    labels = [line["label"] for line in Elements(page).data["charts"]["latency"][0][0]["lines"]]
    assert labels[:2] == ["dedicated-stream, before", "dedicated-stream, after"]
    assert "stream-free against stream-free" not in page
    assert "<h1>second against first" in page.replace(f"{tmp_path}/", "")


def test_words_are_explained_if_the_page_has_them() -> None:
    text = html_report(Analysis.of(run([samples(arm, Timing.EAGER, case=case(8)) for arm in ARMS])))
    assert "<dt>eager</dt>" in text
    assert "<dt>graph</dt>" not in text
    assert "<dt>twin</dt>" not in text
    assert "eager can be below enqueue" not in text
    times = {Timing.EAGER: 13.6, Timing.ENQUEUE: 22.3}
    lines = [samples(arm, timing, case=case(8), samples_us=(us,) * 3) for arm in ARMS for timing, us in times.items()]
    text = html_report(Analysis.of(run(lines)))
    assert "eager can be below enqueue" in text


@pytest.mark.parametrize("field", ["arm", "hostname", "message", "name"])
def test_text_of_a_record_never_becomes_markup(field: str) -> None:
    arm = EVIL if field == "arm" else "torch"
    lines = [samples(name, case=case(8)) for name in ("dedicated-stream", arm)]
    lines += [crash(arm=arm, message=EVIL if field == "message" else "")]
    made_up = run(lines, arms=["dedicated-stream", arm])
    made_up.meta["environment"]["hostname"] = EVIL if field == "hostname" else "node7"
    named = {"name": EVIL} if field == "name" else {}
    text = html_report(Analysis.of(Run(meta={**made_up.meta, **named}, lines=made_up.lines)))
    assert "alert(1)" in text or field == "hostname"
    plain = Elements(html_report(Analysis.of(run([samples(name, case=case(8)) for name in ("dedicated-stream", "x")]))))
    page = Elements(text)
    # Two scripts, the data and no image, whatever the record says.
    assert len(page.scripts) == len(plain.scripts) == 3
    assert not page.named("img")
    assert page.data["kinds"]
    if field == "arm":
        assert EVIL in [each["name"] for each in page.data["arms"]]


def test_a_page_loads_nothing_and_runs_no_other_script() -> None:
    page = page_of(run(sweep()))
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "img", "base")
        assert attributes.get("src") is None
        assert not [name for name in attributes if name.startswith("on")]
        assert str(attributes.get("href", "#")).startswith("#")
    (policy,) = [str(each["content"]) for each in page.named("meta") if each.get("http-equiv")]
    allowed = set(re.findall(r"'sha256-[^']+'", policy))
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in page.scripts[1:]
    }
    assert allowed == hashes
    assert policy.startswith("default-src 'none';")


def test_the_numbers_are_those_of_the_summary() -> None:
    analysis = Analysis.of(run(sweep()))
    numbers = Elements(html_report(analysis)).data["numbers"]
    assert numbers["count"] == len(analysis.rows)
    names = [column["name"] for column in numbers["columns"]]
    assert names == [name for name in COLUMNS if any(getattr(row, name) is not None for row in analysis.rows)]
    (times,) = [column["values"] for column in numbers["columns"] if column["name"] == "time_us"]
    assert times == pytest.approx([row.time_us for row in analysis.rows], rel=1e-5)


def test_failures_stand_above_the_verdicts() -> None:
    text = html_report(Analysis.of(run([*sweep(), wrong(arm="torch", case=case(3072)), hang(case=case(4098))])))
    assert 0 < text.index("HANG: ") < text.index('<section id="ratio"')
    assert text.index("HANG: ") < text.index('class="verdicts"')


def test_a_run_without_times_and_two_sides_have_a_page() -> None:
    broken = page_of(run([crash(case=None, message="no")]))
    assert broken.data["charts"]["ratio"] == []
    comparisons = Analysis.of(run(sweep())).comparisons
    sides = Elements(html_report(compared_runs(comparisons)))
    (latencies,) = sides.data["charts"]["latency"]
    # The lines of an arm have one style; the time before is hollow.
    assert {bool(line.get("hollow")) for chart in latencies for line in chart["lines"]} == {True, False}
    pair = compared_runs([each for each in comparisons if each.candidate == "torch"])
    (latencies,) = Elements(html_report(pair)).data["charts"]["latency"]
    assert [[line["style"] for line in chart["lines"]] for chart in latencies] == [[0, 2]] * len(Timing)
    assert "environment" not in [attributes["id"] for attributes in sides.named("section")]


def test_two_sides_have_the_sections_of_a_run(tmp_path: Path) -> None:
    sides = [load_run(write(tmp_path / name, sweep(gpus=gpus()))) for name in ("first", "second")]
    analysis = analyse_sides(sides[:1], sides[1:], None, None, Limits(default=0.02), allow_mismatch=True)
    page = Elements(html_report(analysis))
    assert [attributes["id"] for attributes in page.named("section")] == SECTIONS
    charts = page.data["charts"]
    (latencies,), (rounds,), (sensors,) = charts["latency"], charts["rounds"], charts["sensors"]
    labels = [line["label"] for line in latencies[0]["lines"]]
    assert labels[:4] == [f"{arm}, {side}" for arm in ARMS[:2] for side in ("before", "after")]
    assert all(line["low"] for chart in latencies for line in chart["lines"])
    assert [chart["title"] for chart in rounds[:2]] == ["eager, before", "eager, after"]
    assert [chart["title"] for chart in sensors[:2]] == [
        "SM clock, lowest of all GPUs, before",
        "SM clock, lowest of all GPUs, after",
    ]
    # The box of a pair switches the lines of both sides.
    assert {line["arm"] for line in latencies[0]["lines"]} == {each["name"] for each in page.data["arms"]}


def test_the_chart_library_has_its_license() -> None:
    assets = Path(__file__).parents[3] / "nccl_bench" / "report" / "html" / "assets"
    license_text = (assets / "uPlot-LICENSE.txt").read_text(encoding="utf-8").strip()
    assert "MIT" in license_text
    assert license_text.splitlines()[0] in html_report(Analysis.of(run(sweep(sizes=(8,)))))
