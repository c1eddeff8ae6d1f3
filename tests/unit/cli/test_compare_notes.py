"""The notes of ``nccl-bench compare``: differences between the runs, failures, gaps and warnings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.catalog.devices import DEVICES
from nccl_bench.records.schema import Skipped
from tests.support.compare_command import (
    BASE,
    NEW,
    CompareCommand,
    flat,
    lines,
    measured,
    refused,
    summary_csv,
    times,
    write,
)
from tests.support.synthetic_runs import case, meta, run, wrong


def test_a_run_that_was_killed_is_compared_with_a_warning(compare: CompareCommand, tmp_path: Path) -> None:
    killed = write(tmp_path / "killed", lines(seed=13), status="running")
    with (killed / "samples.jsonl").open("a") as file:
        file.write('{"kind": "samp')
    out = flat(compare("before", "killed")[1])
    assert "ends within line 7. This line is ignored" in out
    assert "after: the run is still running or killed, so a part of the run is missing" in out


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
    assert "same" in out[out.index("Ratios below 1") :]
    for text in compared:
        assert f"compared although the runs differ: {text}" in flat(out)
    # Another version of nccl-bench is only a warning.
    write(tmp_path / "newer", lines(seed=43), **known, schema=2, version="0.2.0")
    status, out, _ = compare("known", "newer")
    assert status == 0
    assert "nccl-bench itself changed between the runs, so a small" in flat(out)
    assert "nccl-bench 0.1.0 (before), 0.2.0 (after)" in flat(out)
    assert "nccl-bench itself changed" not in compare("known", "before")[1]
    # Every run of a side counts.
    write(tmp_path / "known-2", lines(seed=42), **known)
    write(tmp_path / "known-3", lines(seed=44), **known)
    assert "(before 2)" in refused(compare("known,other", "known-2"))
    assert "compared although" not in compare("known,known-2", "known-3")[1]


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
