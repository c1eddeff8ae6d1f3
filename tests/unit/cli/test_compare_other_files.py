"""Summaries and output of nccl-tests as sides of ``nccl-bench compare``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.records import importers
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples
from tests.support.compare_command import (
    BASE,
    NCCL_TESTS,
    NEW,
    TWIN,
    CompareCommand,
    cells,
    flat,
    lines,
    summary_csv,
    times,
    write,
)
from tests.support.synthetic_runs import run


@pytest.mark.parametrize("sides", [("before.csv", "slower"), ("slower", "before.csv"), ("before.csv", "after.csv")])
def test_a_summary_is_a_side_without_a_verdict(compare: CompareCommand, sides: tuple[str, str]) -> None:
    status, out, err = compare(*sides)
    assert (status, err) == (0, "")
    assert "No verdict: at least one run has a single time for each cell" in flat(out)
    assert "give the directories of all runs" in flat(out)
    assert "a summary has no intervals" in flat(out)
    assert [row.arm for row in Analysis.of(run(lines())).rows if row.arm == TWIN]
    assert f"{TWIN} after" not in out
    # Medians are relative to nothing, so the baseline is an arm like any other.
    assert "relative" not in out
    assert f"{BASE} and {NEW}" in flat(out)
    if "after.csv" in sides:
        ratios = [cell["ratio"] for cell in json.loads(compare(*sides, "--format", "json")[1])["cells"]]
        assert ratios == pytest.approx([2.0] * 4, rel=0.01)


def test_output_of_nccl_tests_is_a_side(compare: CompareCommand) -> None:
    plain, graph = NCCL_TESTS / "all_reduce.txt", NCCL_TESTS / "all_reduce.json"
    compared = cells(compare(plain, graph, "--format", "json"))
    assert compared
    assert {cell["compared"] for cell in compared} == {"nccl-tests, after against before"}
    assert all("verdict" not in cell for cell in compared)


def test_output_of_nccl_tests_is_compared_with_an_arm(compare: CompareCommand, tmp_path: Path) -> None:
    path = NCCL_TESTS / "all_reduce.txt"
    measured = next(line for line in importers.read(path).lines if isinstance(line, Samples))
    write(tmp_path / "ours", [times(NEW, 10.0, 1, timing=measured.timing, case=measured.case)])
    status, out, err = compare(path, "ours", "--arms", f"nccl-tests,{NEW}", "--allow-mismatch")
    assert (status, err) == (0, "")
    assert f"{NEW} (after) against nccl-tests (before)" in flat(out)
    assert "+21" in out


def test_times_that_merge_their_ranks_differently_have_a_warning(compare: CompareCommand, tmp_path: Path) -> None:
    text = (NCCL_TESTS / "all_reduce.json").read_text()
    for second, (name, option) in enumerate((("average", "1"), ("maximum", "3"), ("averages", "1"))):
        document = json.loads(text)
        document["args"] += ["-a", option]
        document["start_time"] = f"2026-11-22 09:16:2{second}"
        # Beside a summary, only other results show that it is another run.
        document["results"] = document["results"][: 1 if name == "averages" else None]
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
        # The run that `import` makes of it.
        imported = importers.read(tmp_path / f"{name}.json")
        write(tmp_path / name, imported.lines, **imported.meta())
        (tmp_path / f"{name}.csv").write_text(summary_csv(Run.load(tmp_path / name)))
    (tmp_path / "table.txt").write_text((NCCL_TESTS / "all_reduce.txt").read_text())

    def groups(*sides: str) -> list[str]:
        compared: list[str] = json.loads(compare(*sides, "--allow-mismatch", "--format", "json")[1])["warnings"]
        return [text.partition(" These runs: ")[2] for text in compared if "ranks are merged differently" in text]

    assert groups("average.json", "before") == ["average (before); maximum (after)"]
    assert groups("before,same", "average") == ["maximum (before 1, before 2); average (after)"]
    assert groups("table.txt", "before") == ["not recorded (before); maximum (after)"]
    assert groups("before.csv", "average.csv") == ["maximum (before); not recorded (after)"]
    assert groups("maximum.json", "average.json") == ["maximum (before); average (after)"]
    assert groups("maximum.json", "before") == groups("before", "maximum") == []
    assert (
        groups("average.json", "table.txt")
        == groups("averages.json", "average.csv")
        == groups("same", "before.csv")
        == []
    )
    # Without --allow-mismatch too.
    assert "an average looks faster" in flat(compare("maximum.json", "average.json")[1])


def test_an_import_that_was_cut_is_compared_with_a_warning(compare: CompareCommand, tmp_path: Path) -> None:
    whole = (NCCL_TESTS / "all_reduce.txt").read_text()
    (tmp_path / "cut.txt").write_text(whole[: whole.index("# Out of bounds")])
    imported = importers.read(tmp_path / "cut.txt")
    write(tmp_path / "cut", imported.lines, **imported.meta())
    for side in ("cut.txt", "cut"):
        out = flat(compare(NCCL_TESTS / "all_reduce.json", side)[1])
        assert "after: the run is interrupted, so a part of the run is missing" in out
        assert "- after: cut.txt: the table has no end" in out
    events = flat(compare(NCCL_TESTS / "all_reduce-per-iteration.txt", NCCL_TESTS / "all_reduce.txt")[1])
    assert "- before: nccl-tests put events" in events
    assert "after: nccl-tests put events" not in events
