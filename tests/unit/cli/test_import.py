from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.cli import main
from nccl_bench.records.importers import read
from nccl_bench.records.importers.nccl_tests import ARM
from nccl_bench.records.run import Run
from tests.support.nccl_tests_files import DATA, FILES, TABLE


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nccl-bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run_command


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_import_writes_a_run_that_report_shows(file: Path, command: Any, tmp_path: Path) -> None:
    code, printed, errors = command("import", file, "--out", "there", "--name", "mine")
    assert (code, printed, errors) == (0, "", f"nccl-bench: recorded in {tmp_path / 'there'}\n")
    run = Run.load(tmp_path / "there")
    assert run.lines == read(file).lines
    assert (run.baseline, run.arms, run.world_size, run.device) == (ARM, (ARM,), 4, "cuda")
    assert (run.meta["name"], run.meta["status"], run.meta["config"]["source"]) == ("mine", "complete", [file.name])
    assert run.meta["started"] == ("start not recorded" if file.suffix == ".txt" else read(file).started)
    assert run.meta["worker"]["transport"]["version"] == "2.28.9"
    assert (tmp_path / "there" / "summary.csv").read_text(encoding="utf-8").count("\n") == 5

    code, tables, errors = command("report", "there", "--width", "80")
    assert (code, errors) == (0, "")
    assert "nccl-tests, 4x H200" in tables
    assert "each time is the average over ranks" in tables
    assert "slowest" not in tables
    # A path has no place where a line could break.
    assert all(len(line) <= 80 or str(file) in line for line in tables.splitlines())
    assert ("single operations" in tables) == ("per-iteration" in file.name)
    _, as_json, _ = command("report", "there", "--format", "json")
    for summary in json.loads(as_json)["summary"]:
        assert {"rank_spread_us", "slowest_rank", "tolerance_ulp", "p90_us"}.isdisjoint(summary)


def test_report_names_what_the_import_left_out(command: Any, tmp_path: Path) -> None:
    (tmp_path / "cut.txt").write_text(TABLE[:-150], encoding="utf-8")
    code, _, errors = command("import", "cut.txt", "--out", "there")
    # The whole rows are recorded, and a warning says that there were more.
    assert code == 0
    assert "\nnccl-bench: cut.txt: the table has no end" in errors
    assert Run.load(tmp_path / "there").meta["status"] == "interrupted"
    _, tables, _ = command("report", "there", "--width", "80")
    assert "cut.txt: the table has no end" in tables


def test_import_of_wrong_results_records_them_and_exits_with_4(command: Any, tmp_path: Path) -> None:
    document = json.loads((DATA / "all_reduce.json").read_text(encoding="utf-8"))
    document["results"][0]["in_place"]["nwrong"] = 3
    (tmp_path / "wrong.json").write_text(json.dumps(document), encoding="utf-8")
    code, printed, errors = command("import", "wrong.json", "--out", "there")
    assert (code, printed) == (4, "")
    location, failure = errors.splitlines()[:2]
    assert location == f"nccl-bench: recorded in {tmp_path / 'there'}"
    assert failure.startswith("nccl-bench: WRONG: wrong results in 1 cell of nccl-tests; the first is all_reduce")
    assert (tmp_path / "there" / "summary.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "FILE"),
        (("missing.txt",), 3, "missing.txt cannot be read: No such file"),
        (("other.txt",), 3, "other.txt: it is not the output of a known tool"),
        ((DATA / "all_reduce.txt", DATA / "all_reduce.json"), 2, "both have all_reduce bfloat16 sum 8 B"),
        ((DATA / "all_reduce.txt", "--name", "../out"), 2, "'../out'"),
        ((DATA / "all_reduce.txt", "--out", "other.txt"), 2, "other.txt cannot be written"),
    ],
)
def test_bad_input_gets_its_exit_code_and_leaves_nothing_behind(
    arguments: tuple[object, ...], code: int, says: str, command: Any, tmp_path: Path
) -> None:
    (tmp_path / "other.txt").write_text("hello\n", encoding="utf-8")
    exit_code, printed, errors = command("import", *arguments)
    assert (exit_code, printed) == (code, "")
    assert says in errors
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]
