"""``nccl-bench trace``: the same counts in every format, and a workload."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from nccl_bench.config.workload import read_workload
from nccl_bench.errors import ExitCode
from tests.support import recordings
from tests.support.command_line import CommandLine, assert_one_message


@pytest.fixture
def recorded(tmp_path: Path) -> dict[str, str]:
    for name, content in recordings.files().items():
        (tmp_path / name).write_bytes(content)
    return {name: str(tmp_path / name) for name in recordings.files()}


def test_a_profile_and_a_log_together_have_every_call_with_its_size(
    recorded: dict[str, str], command_line: CommandLine
) -> None:
    shown = command_line.run("trace", recorded["kineto-rank0.json"], recorded["nccl-rank0.log"], "--width", "110")[1]
    assert shown.startswith("Rank 0: 8 calls, 2 eager and 6 in graphs\nFrom kineto-rank0.json and nccl-rank0.log.\n")
    rows = [line.split() for line in shown.splitlines() if line.startswith("all_")]
    assert rows == [
        ["all_reduce", "bfloat16", "8", "KiB", "8", "KiB", "2", "eager", "2", "7", "?"],
        ["all_gather", "bfloat16", "4000", "B", "2000", "B", "2", "graph", "3", "7", "?"],
        ["all_reduce", "bfloat16", "1", "KiB", "1", "KiB", "2", "graph", "3", "7", "RING/LL"],
    ]
    assert "What is not known" not in shown


def test_every_format_has_the_same_calls(recorded: dict[str, str], command_line: CommandLine) -> None:
    kineto = recorded["kineto-rank0.json"], recorded["kineto-rank1.json.gz"]
    document = json.loads(command_line.run("trace", *kineto, "--format", "json")[1])
    rows = list(csv.DictReader(io.StringIO(command_line.run("trace", *kineto, "--format", "csv")[1])))
    of_json = [
        (str(each["rank"]), row["collective"], row["mode"], "" if row["size_bytes"] is None else str(row["size_bytes"]))
        for each in document["ranks"]
        for row in each["messages"]
    ]
    assert of_json == [(row["rank"], row["collective"], row["mode"], row["size_bytes"]) for row in rows]
    assert len(rows) == 6
    terminal = command_line.run("trace", *kineto)[1]
    markdown = command_line.run("trace", *kineto, "--format", "markdown")[1]
    for text in (terminal, markdown):
        assert "Ranks 0 and 1: 8 calls each, 2 eager and 6 in graphs" in text
        assert "6 calls in graphs are kernels without sizes: add a log of NCCL" in " ".join(text.split())


def test_of_two_files_with_one_name_none_is_ignored_without_a_word(
    recorded: dict[str, str], command_line: CommandLine, tmp_path: Path
) -> None:
    first = Path(recorded["kineto-rank0.json"])
    second = tmp_path / "second" / first.name
    second.parent.mkdir()
    second.write_bytes(first.read_bytes())
    (rank,) = json.loads(command_line.run("trace", str(first), str(second), "--format", "json")[1])["ranks"]
    assert (rank["files"], rank["unused"]) == ([str(first)], [str(second)])
    (rank,) = json.loads(command_line.run("trace", str(first), str(first), "--format", "json")[1])["ranks"]
    assert (rank["files"], rank["unused"]) == ([first.name], [])


def test_a_workload_has_the_messages_and_the_command_says_what_it_lacks(
    recorded: dict[str, str], command_line: CommandLine, tmp_path: Path
) -> None:
    out = tmp_path / "written.toml"
    together = (recorded["kineto-rank0.json"], recorded["nccl-rank0.log"])
    code, _, message = command_line.run("trace", *together, "--out", str(out), "--steps", "3")
    assert (code, "one step" in message) == (ExitCode.OK, False)
    workload = read_workload(out)
    assert (workload.steps, workload.source) == (3, ("kineto-rank0.json", "nccl-rank0.log"))
    counts = [(each.collective, each.timing, each.size_bytes, each.count) for each in workload.messages]
    assert counts == [
        ("all_reduce", "eager", 8192, 2),
        ("all_gather", "graph", 4000, 3),
        ("all_reduce", "graph", 1024, 3),
    ]
    # A workload that exists, and that the user may have edited, is kept.
    alone = ("trace", recorded["kineto-rank0.json"], "--out", str(out))
    code, _, message = command_line.run(*alone)
    assert (code, "which exists and differs: give another name" in message) == (ExitCode.USAGE, True)
    assert read_workload(out) == workload
    out.unlink()
    _, _, message = command_line.run(*alone)
    assert command_line.run(*alone)[0] == ExitCode.OK
    assert "6 calls are not in the workload: their sizes are unknown" in message
    assert "the whole recording counts as one step" in message
    code, _, message = command_line.run("trace", recorded["inspector.jsonl"], "--out", str(out))
    assert code == ExitCode.SETUP
    assert "no call can be in a workload; 6 calls are not in the workload: their data type is unknown" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", "2"), "--steps is for the workload that --out writes"),
        (("--out", "w.toml", "--steps", "0"), "--steps is 0: give a whole number from 1 to 1,000,000"),
        (("--out", "w.toml", "--steps", "1000001"), "--steps is 1000001: give a whole number from 1 to 1,000,000"),
        (("--out", "missing/w.toml"), "--out is missing/w.toml, and the directory missing does not exist"),
        (("--format", "html"), "--format is 'html': allowed are terminal, markdown, csv, json"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(
    arguments: tuple[str, ...], message: str, recorded: dict[str, str], command_line: CommandLine
) -> None:
    code, printed, error = command_line.run("trace", recorded["nccl-rank0.log"], *arguments)
    assert (code, printed) == (ExitCode.USAGE, "")
    assert_one_message(error, (message,))
