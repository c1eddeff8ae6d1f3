"""``nccl-bench list``: all values that options can have, with reasons, in every format."""

from __future__ import annotations

import csv
import json
import re
from importlib import metadata
from typing import Any

import pytest
from typer.testing import CliRunner

from nccl_bench.catalog.arms import ARMS, DEFAULT_ARMS
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.probes import PROBES
from nccl_bench.catalog.routes import ROUTED_OPERATIONS, ROUTES, UNROUTED
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.cli import app
from nccl_bench.config.user_arms import GROUP
from nccl_bench.report.listing import Sections, TerminalListing, sections

SECTIONS = tuple(sections())


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["list", *arguments], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def as_json(*arguments: str) -> dict[str, Any]:
    document = json.loads(printed("--format", "json", *arguments))
    assert isinstance(document, dict)
    return document


def in_terminal(chosen: Sections) -> str:
    return TerminalListing(width=80, styled=False).render(chosen)


def test_a_section_is_a_title_a_note_and_a_table() -> None:
    assert in_terminal({name: sections()[name] for name in ("devices", "redops")}) == (
        "devices\n"
        "Values of --device, with the timings and probes that each lacks.\n"
        "\n"
        "device   transport   lacks\n"
        "------   ---------   ----------------------------------------------------------\n"
        "cuda     nccl        graph on the default stream: on the default stream every\n"
        "                     gate opened before all replays were queued\n"
        "cpu      gloo        graph: the CPU has no CUDA graphs\n"
        "                     gated on the default stream: the CPU's default stream runs\n"
        "                     work inside the call, so no gate can hold the work back\n"
        "                     enqueue on the default stream: the CPU's default stream\n"
        "                     runs work inside the call, so no gate can hold the work\n"
        "                     back\n"
        "                     probe allocator: the CPU's queues keep their tensors in\n"
        "                     memory\n"
        "                     probe capture: the CPU has no CUDA graphs\n"
        "\n"
        "redops\n"
        "Values of --op.\n"
        "\n"
        "sum, prod, min, max, avg\n"
    )


def test_a_device_that_lacks_nothing_still_has_a_line() -> None:
    row = {"device": "cuda", "transport": "nccl", "lacks": []}
    assert in_terminal({"devices": [row]}).splitlines()[-1] == "cuda     nccl"


def test_the_json_has_all_rows_of_the_catalog() -> None:
    document = as_json()
    assert tuple(document) == SECTIONS
    assert {row["arm"]: row["summary"] for row in document["arms"]} == {name: arm.summary for name, arm in ARMS.items()}
    assert {row["arm"]: row["order"] for row in document["arms"]} == {name: arm.order for name, arm in ARMS.items()}
    assert tuple(row["arm"] for row in document["arms"] if row["timed"] == "default") == DEFAULT_ARMS
    assert [row["arm"] for row in document["arms"] if row["timed"] == "never"] == [
        name for name, arm in ARMS.items() if not arm.timed
    ]
    for row in document["collectives"]:
        collective = COLLECTIVES[row["collective"]]
        assert {place for place in Placement if row[place]} == {*collective.placements}
        assert row["reduces"] == collective.reduces
    assert len(document["collectives"]) == len(COLLECTIVES)
    assert document["dtypes"] == list(DTYPES)
    assert document["redops"] == list(RedOp)
    assert {row["timing"]: row["question"] for row in document["timings"]} == {
        timing: TIMINGS[timing].question for timing in Timing
    }
    for row in document["devices"]:
        device = DEVICES[row["device"]]
        assert row["transport"] == device.transport
        lacking = (device.missing_timings, device.missing_on_default_stream, device.missing_probes)
        assert len(row["lacks"]) == sum(map(len, lacking))
    assert len(document["devices"]) == len(DEVICES)
    assert [(row["probe"], row["ends processes"], row["summary"]) for row in document["probes"]] == [
        (probe.name, probe.ends_processes, probe.summary) for probe in PROBES.values()
    ]
    routed = {row.pop("operation"): row for row in document["routes"]}
    assert routed == {**ROUTES, **{name: {"reason": reason} for name, reason in UNROUTED.items()}}


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_tables_fit_the_width_and_have_every_name(width: int) -> None:
    text = printed("--width", str(width))
    assert text.isascii()
    assert all(len(line) <= width for line in text.splitlines())
    assert all(line == line.rstrip() for line in text.splitlines())
    names = set(text.replace(",", " ").split())
    assert {*SECTIONS, *ARMS, *COLLECTIVES, *DTYPES, *RedOp, *Timing, *DEVICES, *PROBES, *UNROUTED} <= names
    assert set(ROUTED_OPERATIONS) <= names


def test_entry_points_of_installed_packages_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [metadata.EntryPoint(name, f"{name}.comm:make", GROUP) for name in ("slow", "fast")]

    def installed(*, group: str) -> list[metadata.EntryPoint]:
        return [point for point in points if point.group == group]

    assert "none" in printed("user_arms").split()
    assert as_json("user_arms") == {"user_arms": []}
    assert printed("user_arms", "--format", "csv") == "user_arms\n"
    monkeypatch.setattr(metadata, "entry_points", installed)
    assert as_json("user_arms") == {
        "user_arms": [{"arm": "fast", "target": "fast.comm:make"}, {"arm": "slow", "target": "slow.comm:make"}]
    }


def test_help_names_the_sections() -> None:
    assert f"The sections: {', '.join(SECTIONS)}." in " ".join(printed("--help").split())


def test_without_a_width_the_tables_are_as_wide_as_the_terminal() -> None:
    assert printed() == printed("--width", "80")


def test_in_a_narrow_terminal_the_last_column_stays_readable() -> None:
    words = printed("arms", "--width", "20").split()
    assert set(ARMS["dedicated-stream-unordered"].summary.split()) <= set(words)


def test_sections_are_printed_once_in_the_given_order() -> None:
    assert list(as_json("routes", "arms", "routes")) == ["routes", "arms"]
    titles = [line for line in printed("redops", "dtypes").splitlines() if line in SECTIONS]
    assert titles == ["redops", "dtypes"]


@pytest.mark.parametrize("chosen", [(), ("routes",), ("arms", "routes")])
def test_routes_are_printed_with_the_overrides(chosen: tuple[str, ...]) -> None:
    overrides = ("--routes", "graph=torch, all_reduce.eager=communicator")
    rows = {row["operation"]: row for row in as_json(*chosen, *overrides)["routes"]}
    assert rows["all_reduce"] == {"operation": "all_reduce", "eager": "communicator", "graph": "torch"}
    assert rows["broadcast"] == {"operation": "broadcast", "eager": "torch", "graph": "torch"}
    assert rows["barrier"] == {"operation": "barrier", "reason": UNROUTED["barrier"]}
    table = [line.split() for line in printed(*chosen, *overrides).splitlines()]
    assert ["all_reduce", "communicator", "torch"] in table
    assert ["all_reduce", "torch", "communicator"] not in table


@pytest.mark.parametrize("section", SECTIONS)
def test_csv_and_markdown_have_the_same_cells_for_every_entry(section: str) -> None:
    rows = list(csv.reader(printed(section, "--format", "csv").splitlines()))
    title, empty, note, _, *table = printed(section, "--format", "markdown").splitlines()
    assert (title, empty) == (f"**{section}**", "")
    assert note.endswith(".")
    cells = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in table]
    assert cells[1] == ["---"] * len(rows[0])
    assert [cells[0], *cells[2:]] == rows
    assert len(rows) == 1 + len(sections()[section])


def test_csv_writes_lists_and_truths_as_text_and_leaves_absent_cells_empty() -> None:
    def rows(section: str) -> dict[str, list[str]]:
        return {first: rest for first, *rest in csv.reader(printed(section, "--format", "csv").splitlines())}

    assert rows("dtypes").keys() == {"dtypes", *DTYPES}
    assert rows("collectives")["all_reduce"][-1] == "yes"
    assert rows("devices")["cpu"][1].endswith("keep their tensors in memory; probe capture: the CPU has no CUDA graphs")
    assert rows("routes")["operation"] == ["eager", "graph", "reason"]
    assert rows("routes")["barrier"] == ["", "", UNROUTED["barrier"]]


def test_markdown_has_every_section_in_the_given_order() -> None:
    text = printed("redops", "dtypes", "--format", "markdown")
    assert re.findall(r"(?m)^\*\*(\w+)\*\*$", text) == ["redops", "dtypes"]
    assert "| sum |\n" in text
    assert text.endswith("|\n")
