"""The output of ``nccl-bench compare`` about runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.verdict_words import VERDICT_WORDS
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.errors import ExitCode
from nccl_bench.records import importers
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples, Skipped
from tests.support.compare_command import (
    BASE,
    NCCL_TESTS,
    NEW,
    TWIN,
    CompareCommand,
    cells,
    flat,
    lines,
    measured,
    refused,
    summary_csv,
    times,
    write,
)
from tests.support.synthetic_runs import case, meta, run, samples, wrong


@pytest.mark.parametrize(
    ("after", "verdict", "ratio"), [("same", "equivalent", 1.0), ("slower", "slower", 1.1), ("faster", "faster", 0.9)]
)
def test_one_run_on_each_side_is_compared_relative_to_the_common_baseline(
    compare: CompareCommand, after: str, verdict: str, ratio: float
) -> None:
    """The machine was slower by a fifth, which does not matter."""
    compared = cells(compare("before", after, "--format", "json"))
    assert [(cell["compared"], cell["size_bytes"], cell["verdict"]) for cell in compared] == [
        (f"{NEW}, after against before", size, verdict) for size in (8, 1024)
    ]
    for cell in compared:
        assert cell["ratio"] == pytest.approx(ratio, rel=0.01)
        assert cell["ratio_low"] <= cell["ratio"] <= cell["ratio_high"]
    status, out, err = compare("before", after)
    assert (status, err) == (0, "")
    assert out.startswith(f"{after} against before: {NEW}, after against before")
    assert f"Basis one run on each side, relative to the arm {BASE} in the same round" in flat(out)
    if after != "same":
        words = "wrong, if only the arms changed between these two runs: repeat both runs to be sure"
        assert words in flat(out)
    assert f"8 to 1K {VERDICT_WORDS[Verdict(verdict)]}" in flat(out)
    # The ratio of the shared arm itself is printed.
    itself = "1.20x" if after == "same" else "1.00x"
    assert f"Every ratio is relative to the arm {BASE}. This arm itself gets no verdict; its ratios: {itself}." in flat(
        out
    )


def test_a_comparison_has_the_facts_of_both_sides_and_the_commands_to_repeat_it(
    compare: CompareCommand, tmp_path: Path
) -> None:
    # The change is right at the threshold, so it is open.
    for seed, (name, new_us) in enumerate((("old", 8.0), ("new", 8.4))):
        write(tmp_path / name, lines(new_us, seed), command=["nccl-bench", "run", "--out", name])
    report = json.loads(compare("old", "new", "--threshold", "5%", "--format", "json")[1])
    facts = [(fact["name"], fact["text"]) for fact in report["headline"]["facts"]]
    assert list(dict.fromkeys(name for name, _ in facts)) == [
        "Basis",
        "Results",
        "Order",
        "Machine",
        "Steady",
        "Command",
        "Next",
    ]
    assert (
        "Results",
        "before and after each: right in all 4 cells of all arms, on every rank; 2 are compared",
    ) in facts
    assert [text for name, text in facts if name == "Command"] == [
        "before: nccl-bench run --out old",
        "after: nccl-bench run --out new",
        "compare: nccl-bench compare old new --threshold 5%",
    ]
    assert [text for name, text in facts if name == "Next"][1:] == [
        "before: nccl-bench run --launches 5 --out old-launches-5",
        "after: nccl-bench run --launches 5 --out new-launches-5",
        "then: nccl-bench compare old-launches-5 new-launches-5",
    ]
    # In Markdown the commands are blocks, each below its side, and no fact is the name of a side alone.
    markdown = compare("old", "new", "--threshold", "5%", "--format", "markdown")[1]
    assert markdown.count("- Next: ") == 1
    assert [line for line in markdown.splitlines() if re.fullmatch("(Command|Next)(, .*)?:", line)] == [
        *("Command, before:", "Command, after:", "Command, compare:"),
        *("Next, before:", "Next, after:", "Next, then:"),
    ]


def test_one_run_with_before_and_after_needs_no_arms(compare: CompareCommand, tmp_path: Path) -> None:
    arms = (("before", 10.0), ("before:twin", 10.0), ("after", 8.0), ("torch", 30.0))
    write(tmp_path / "pair", [times(arm, us, 4) for arm, us in arms])
    (cell,) = cells(compare("pair", "--format", "json"))
    assert (cell["compared"], cell["verdict"]) == ("after against before", "faster")


def test_two_arms_of_one_run_are_compared_by_pairs_of_rounds(compare: CompareCommand) -> None:
    status, out, err = compare("before", "--arms", f"{BASE},{NEW}")
    assert (status, err) == (0, "")
    assert out.startswith(f"{NEW} against {BASE}, all_reduce")
    assert "8 to 1K faster 0.800" in flat(out)
    assert "noise" in out
    (first, _) = cells(compare("before", "--arms", f"{NEW},{BASE}", "--format", "json"))
    assert (first["verdict"], first["ratio"]) == ("slower", pytest.approx(1.25, rel=0.01))
    # The twin of the other arm serves as well.
    assert 0 <= first["noise_floor"] < 0.01
    assert (first["baseline_us"], first["candidate_us"]) == (
        pytest.approx(9.2, rel=0.01),
        pytest.approx(11.5, rel=0.01),
    )
    assert "No noise floor" not in out
    assert "No noise floor: no twin of a baseline was measured" in flat(compare("noisy", "--arms", f"{NEW},{BASE}")[1])


def test_cells_that_one_of_two_arms_lacks_are_listed(compare: CompareCommand, tmp_path: Path) -> None:
    write(tmp_path / "odd", [*lines(sizes=(8,)), times(BASE, 10.0, 1, 64), times(NEW, 8.0, 1, 128)])
    out = flat(compare("odd", "--arms", f"{BASE},{NEW}")[1])
    # Cells are listed by the arm that is missing.
    assert f"gated of {NEW}, all_reduce bfloat16 sum, 64 B: no time" in out
    assert f"gated of {BASE}, all_reduce bfloat16 sum, 128 B: no time" in out
    write(tmp_path / "apart", [times(BASE, 10.0, 1), samples(NEW, rounds=(30, 31), samples_us=(8.0, 8.1))])
    out = flat(compare("apart", "--arms", f"{BASE},{NEW}")[1])
    assert out.count(f"gated of {NEW}, all_reduce bfloat16 sum, 1 KiB: no round in common with {BASE}") == 1
    assert "no time" not in out


def test_several_runs_on_each_side_are_compared_by_the_variation_between_runs(
    compare: CompareCommand, tmp_path: Path
) -> None:
    write(tmp_path / "before-again", lines(seed=12))
    status, out, err = compare("before,same", "slower,faster")
    assert (status, err) == (0, "")
    assert out.startswith("slower, faster against before, same: dedicated-stream and stream-free,\n")
    assert "Basis 2 runs before and 2 runs after" in flat(out)
    assert f"{BASE}, after against before" in out
    assert "OPEN" in out
    full = flat(compare("before,same", "slower,faster", "--full")[1])
    assert "More runs or launches (--launches) on each side narrow the interval" in full
    status, out, _ = compare("before,same,before-again", "slower", "--arms", f"{NEW},{NEW}")
    assert "Basis 3 runs before and 1 run after, relative to" in flat(out)
    assert "8 to 1K slower 1.1" in flat(out)


def test_without_a_common_arm_there_is_a_reason_instead_of_verdicts(compare: CompareCommand) -> None:
    status, out, err = compare("alone", "lonely")
    assert (status, err) == (0, "")
    assert "No verdict: each side has only one run" in flat(out)
    assert "--shared" in out
    assert "no verdict" in out
    assert "confidence" not in out


def test_cells_that_only_one_side_has_are_listed(compare: CompareCommand) -> None:
    status, out, _ = compare("before", "noisy")
    assert status == 0
    gap = f"gated of {NEW}, all_reduce bfloat16 sum, 8 B: before only"
    assert gap in flat(out)
    assert json.loads(compare("before", "noisy", "--format", "json")[1])["not_compared"] == [gap]


def test_two_sides_with_nothing_in_common_have_no_verdict_and_do_not_pass(
    compare: CompareCommand, tmp_path: Path
) -> None:
    write(tmp_path / "other", lines(sizes=(2**20,)))
    status, out, err = compare("before", "other")
    assert (status, err) == (0, "")
    assert "No verdict: the two sides have no case, timing and arm in common." in flat(out)
    assert "By" not in out.split()
    assert ": after only" in out
    # A gate does not pass then, and it prints nothing else.
    for fail_on in ("inconclusive", "slower", "slower,wrong"):
        status, _, err = compare("before", "other", "--fail-on", fail_on)
        assert status == ExitCode.INCONCLUSIVE
        assert err.startswith("nccl-bench: nothing could be judged, so --fail-on ")
        assert "no case, timing and arm in common" in err
        assert err.count("\n") == 1
    assert compare("before", "other", "--fail-on", "wrong")[0] == ExitCode.OK
    # The sentence stays whole if the runs allow no verdicts either.
    write(tmp_path / "others", lines(sizes=(2**21,)), started="later")
    assert "No verdict: the two sides have no case" in flat(compare("before.csv", "others")[1])


def test_a_run_that_was_killed_is_compared_with_a_warning(compare: CompareCommand, tmp_path: Path) -> None:
    killed = write(tmp_path / "killed", lines(seed=13), status="running")
    with (killed / "samples.jsonl").open("a") as file:
        file.write('{"kind": "samp')
    out = flat(compare("before", "killed")[1])
    assert "ends within line 7. This line is ignored" in out
    assert "after: the run is still running or killed, so a part of the run is missing" in out


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


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"launch": meta()["launch"] | {"world_size": 8}}, "ranks: 4 (before); 8 (after)"),
        ({"environment": {"hostname": "b", "gpus": [{"name": "NVIDIA B200", "driver": "590"}]}}, ""),
        ({"worker": {"torch": "2.14", "transport": {"version": "2.29"}}}, ""),
        ({"environment": {"variables": {"NCCL_ALGO": "Ring"}}}, ""),
    ],
)
def test_runs_of_different_machines_are_compared_only_with_allow_mismatch(
    compare: CompareCommand, tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    known = {
        "environment": {"hostname": "a", "gpus": [{"name": "NVIDIA H200", "driver": "580"}], "variables": {}},
        "worker": {"torch": "2.13", "transport": {"version": "2.28"}},
    }
    for seed, (name, of) in enumerate((("known", known), ("other", known | changes)), start=40):
        write(tmp_path / name, lines(seed=seed), **of)
    sides = ("before", "other") if line else ("known", "other")
    message = refused(compare(*sides))
    assert "the runs were not measured under the same conditions" in message
    assert "--allow-mismatch" in message
    assert line in message
    compared = [text.strip() for text in message.splitlines()[1:-1]]
    assert compared
    status, out, err = compare(*sides, "--allow-mismatch")
    assert (status, err) == (0, "")
    assert "same" in out[out.index("Verdicts.") :]
    for text in compared:
        assert f"compared although the runs differ: {text}" in flat(out)
    # Another version of nccl-bench is only a warning.
    write(tmp_path / "newer", lines(seed=43), **known, schema=2, version="0.2.0")
    status, out, _ = compare("known", "newer")
    assert status == 0
    assert "nccl-bench 0.1.0 with schema 1 (before) and 0.2.0 with schema 2 (after) can measure differently" in flat(
        out
    )
    assert "measured by different versions" not in compare("known", "before")[1]
    # Every run of a side counts.
    write(tmp_path / "known-2", lines(seed=42), **known)
    write(tmp_path / "known-3", lines(seed=44), **known)
    assert "(before 2)" in refused(compare("known,other", "known-2"))
    assert "runs differ" not in compare("known,known-2", "known-3")[1]


def test_failures_are_listed_with_their_side(compare: CompareCommand, tmp_path: Path) -> None:
    out = flat(compare("before,hung", "wrong")[1])
    assert "before 2: HANG: all_reduce bfloat16 sum 64 B, arm stream-free, rank 3 on node7" in out
    assert "after: WRONG: wrong results in 1 cell of stream-free; the first is all_reduce" in out
    assert json.loads(compare("crashed", "before", "--format", "json")[1])["failures"] == [
        "before: CRASH: all_reduce bfloat16 sum 64 B, arm stream-free, rank 1 on node7: ncclSystemError"
    ]
    assert "  HANG: all_reduce" in compare("hung", "--arms", f"{BASE},{NEW}")[1]
    assert "after: HANG: 1 row of the summary without a time" in flat(compare("before", "hung.csv")[1])
    # The arm with the wrong result is missing.
    write(tmp_path / "bad", [times(BASE, 10.0, 1), wrong(arm=NEW), *lines(sizes=(8,))])
    out = flat(compare("bad", "--arms", f"{BASE},{NEW}")[1])
    assert f"gated of {NEW}, all_reduce bfloat16 sum, 1 KiB: no time" in out
    assert out.count(": no time") == 1
    assert "HANG" not in compare("before", "slower")[1]


def test_gaps_are_listed_with_their_side(compare: CompareCommand, tmp_path: Path) -> None:
    large = Skipped(case=case(2**34), reason="its buffers do not fit")
    write(tmp_path / "partly", [*lines(seed=31), large], left_out=["torch has no all_to_all"])
    out = flat(compare("before", "partly")[1])
    assert "Not measured - after: torch has no all_to_all - after: all_reduce" in out
    assert "16G" in out.partition("Not measured")[2] or "skipped, its buffers do not fit" in out
    assert "- torch has no all_to_all" in compare("partly", "--arms", f"{BASE},{NEW}")[1]
    (tmp_path / "partly.csv").write_text(summary_csv(run([*lines(seed=34), large])))
    assert "- before: skipped: 1 case" in flat(compare("partly.csv", "before")[1])
    # A text that holds for all runs is printed once.
    write(tmp_path / "other", lines(seed=32), left_out=["torch has no all_to_all"])
    assert "- before, after: torch has no all_to_all" in flat(compare("partly", "other")[1])


def test_warnings_about_compared_cells_are_listed_with_their_side(compare: CompareCommand, tmp_path: Path) -> None:
    paths = [
        {"collective": "all_reduce", "arm": arm, "eager": "the same calls", "graph": "others"} for arm in (BASE, NEW)
    ]
    worker = {"paths": paths, "other_nccl_libraries": ["/other/libnccl.so"], "transport": {"path": "/ours/libnccl.so"}}
    doubtful = [*lines(seed=33), *(times(arm, 10.0, 33, 64, wrong=None) for arm in (BASE, NEW, "torch"))]
    odd = [times(BASE, 10.0, 33, 512, discarded=3), times("torch", 10.0, 33, 8, discarded=5)]
    write(tmp_path / "doubtful", [*doubtful, *odd], worker=worker)
    within = flat(compare("doubtful", "--arms", f"{BASE},{NEW}")[1])
    between = flat(compare("before", "doubtful")[1])
    for text, side in ((within, ""), (between, "after: ")):
        assert f"- {side}A second libnccl is loaded: /other/libnccl.so." in text
        assert f"- {side}{NEW} and {BASE} run the same path in all_reduce (gated): the same calls." in text
        # Cells that are not compared have no warnings.
        assert "The gate opened" not in text
    # Warnings are about the compared arms.
    assert "Not checked" not in between
    assert "Not checked: 2 cells" in within
    swapped = flat(compare("doubtful", "--arms", f"{NEW},{BASE}")[1])
    assert f"{BASE} and {NEW} run the same path" in swapped
    other = flat(compare("doubtful", "--arms", f"torch,{NEW}")[1])
    assert "same path" not in other
    assert "Batches whose gate opened too early were discarded in 1 cell, most for torch gated" in other
    # The cells of the shared arm count too.
    write(tmp_path / "shared", [replace(line, discarded=2) if line.arm == BASE else line for line in measured(lines())])
    between = flat(compare("same", "shared")[1])
    assert f"in 2 cells, most for {BASE} (after) gated all_reduce bfloat16 8 (2 times)" in between
    # Of two arms across the sides, each counts only on its own side.
    crossed = flat(compare("doubtful", "before", "--arms", f"{NEW},{BASE}")[1])
    assert "The gate opened" not in crossed
    write(tmp_path / "old", [*lines(), times("torch", 10.0, 1, 8, discarded=5)])
    assert "torch (after)" in flat(compare("doubtful", "old", "--arms", f"{NEW},torch")[1])
    assert "The gate opened" not in flat(compare("old", "same", "--arms", f"{NEW},{NEW}")[1])


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


def test_figures_of_a_cpu_have_a_notice(compare: CompareCommand, tmp_path: Path) -> None:
    for seed, name in ((51, "cpu-1"), (52, "cpu-2")):
        config = meta(arms=[BASE, NEW], device="cpu")["config"]
        write(tmp_path / name, lines(seed=seed), config=config)
    for sides in (("cpu-1", "cpu-2"), ("cpu-1", "--arms", f"{BASE},{NEW}")):
        for form in ("terminal", "markdown", "json"):
            assert flat(compare(*sides, "--format", form)[1]).count(DEVICES["cpu"].figures_notice) == 1
    assert DEVICES["cpu"].figures_notice not in compare("before", "same")[1]


def test_runs_that_differ_in_libnccl_alone_are_compared_and_the_notes_name_both(
    compare: CompareCommand, tmp_path: Path
) -> None:
    for seed, (name, version) in enumerate((("old", "2.27.7"), ("new", "2.28.9")), start=44):
        worker = {"torch": "2.13", "transport": {"version": version, "path": f"/{name}/libnccl.so.2"}}
        write(tmp_path / name, lines(seed=seed), worker=worker)
    status, out, err = compare("old", "new")
    assert (status, err) == (0, "")
    against = "NCCL 2.28.9 at /new/libnccl.so.2 after, against NCCL 2.27.7 at /old/libnccl.so.2 before."
    assert f"The libnccl differs: {against} Nothing else" in flat(out)
    # Runs of one side must have the same libnccl.
    assert "libnccl of stream-free: NCCL 2.27.7 at" in refused(compare("old,new", "before"))
