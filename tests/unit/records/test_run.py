"""Reading run directories: every line and fact reads back, and what is malformed is refused where it stands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.catalog.throttling import ThrottleReason
from nccl_bench.errors import RecordError
from nccl_bench.records.run import VERIFICATION, Run
from nccl_bench.records.schema import Line, Skipped, dump, from_json, parse
from nccl_bench.records.store import RunStore
from tests.support.synthetic_runs import (
    case,
    crash,
    gpus,
    hang,
    imported,
    meta,
    part_times,
    per_iteration,
    samples,
    wrong,
)

LINES: tuple[Line, ...] = (
    samples(per_iteration=per_iteration()),
    samples(case=case(collective="broadcast"), wrong=None, samples_us=(3, 4.5)),
    wrong(),
    imported(),
    Skipped(case=case(), reason="does not fit"),
    hang(),
    hang(case=None),
    crash(case=None, message="line 1\nline 2 \u00e9"),
)


def write_run(path: Path, samples_text: str = "", **changes: Any) -> Path:
    path.mkdir()
    (path / "run.json").write_text(json.dumps(meta() | changes))
    (path / "samples.jsonl").write_text(samples_text)
    return path


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.kind)
def test_a_line_reads_back_equal(line: Line) -> None:
    text = dump(line)
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert parse(text) == line


def broken(**changes: Any) -> dict[str, Any]:
    """Return a samples line with some fields changed, and without the field ``drop``."""
    drop = changes.pop("drop", None)
    value = {**json.loads(dump(samples())), **changes}
    return {key: item for key, item in value.items() if key != drop}


LISTS = ("product_us", "collective_us", "sequence_us", "together_us")


def broken_parts(**changes: Any) -> dict[str, Any]:
    """Return the times of parts with some fields changed."""
    return {**json.loads(json.dumps(asdict(part_times()))), **changes}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "has to be a JSON object"),
        (broken(kind="sample"), 'kind is "sample": known are samples, skipped, hang, crash'),
        (broken(drop="rounds"), "samples has no 'rounds'"),
        (broken(colour="red"), 'unknown field "colour"'),
        (broken(arm=3), "samples.arm is 3: it has to be text"),
        (broken(ops_per_batch=True), "samples.ops_per_batch is true: it has to be a whole number"),
        (broken(ops_per_batch=1.5), "samples.ops_per_batch is 1.5: it has to be a whole number"),
        (broken(samples_us=[1.0, "2", 3.0]), 'samples.samples_us[1] is "2": it has to be a number'),
        (broken(samples_us=[1.0, 2.0]), "differ in length"),
        (broken(slowest_rank=[]), "differ in length"),
        (broken(fastest_rank_us=[8.0], slowest_rank=[1]), "differ in length"),
        (broken(began_s=[1.0]), "differ in length"),
        (
            broken(skew={"late_rank": 1, "delay_us": [1.0], "late_rank_us": [1.0, 2.0]}),
            "rounds, skew.delay_us and skew.late_rank_us differ in length",
        ),
        (broken(samples_us=[10**400, 1.0, 1.0]), "it has to be a number"),
        (
            broken(samples_us=[1.0, 0.0, 3.0]),
            "samples.samples_us[1] is 0.0: it has to be between 0.000001 and 1,000,000,000,000",
        ),
        (broken(timing="gatd"), "known are eager, gated, graph, enqueue"),
        (broken(case=None), "samples.case is null: it has to be an object"),
        (broken(case={"scenario": "isolated"}), "samples.case has no 'collective'"),
        (broken(case={**broken()["case"], "collective": "allreduce"}), 'case.collective is "allreduce"'),
        (broken(case={**broken()["case"], "dtype": "half"}), 'case.dtype is "half"'),
        (broken(per_iteration={"operations": 3}), "samples.per_iteration has no 'min_us'"),
        (broken(parts={"product": "1x1x1"}), "samples.parts has no 'product_us'"),
        (broken(parts=broken_parts(together_us=[1.0])), "the lists of parts are empty or differ in length"),
        (broken(parts=broken_parts(product_together_us=[1.0])), "the lists of parts are empty or differ in length"),
        (
            broken(parts=broken_parts(**{name: [] for name in LISTS})),
            "the lists of parts are empty or differ in length",
        ),
        # Larger than the tables of a report can hold.
        (broken(wrong=2**63), f"samples.wrong is {2**63}: it has to be between -2^63 and 2^63"),
        (broken(discarded=-(2**63)), "samples.discarded is -9223372036854775808: it has to be between -2^63 and 2^63"),
        (broken(rounds=[0, 2**63, 2]), f"samples.rounds[1] is {2**63}: it has to be between -2^63 and 2^63"),
        (broken(case={**broken()["case"], "count": 10**30}), "samples.case.count is 1000"),
    ],
)
def test_a_malformed_line_is_refused_with_the_field(value: object, says: str) -> None:
    with pytest.raises(RecordError) as caught:
        from_json(value)
    assert says in str(caught.value)


def test_the_largest_number_of_a_table_is_read() -> None:
    line = samples(wrong=2**63 - 1, rounds=(0, 1, 2**63 - 1))
    assert parse(dump(line)) == line


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_nan_and_infinity_are_refused(constant: str) -> None:
    with pytest.raises(RecordError, match="not a JSON number"):
        parse(dump(samples()).replace("8.4", constant))


def test_a_malformed_line_is_refused_with_file_and_line_number(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", dump(samples()) + '{"kind": "samples", "ca\n' + dump(samples()))
    with pytest.raises(RecordError, match=r"samples\.jsonl, line 2: not JSON"):
        Run.load(path)


def test_a_last_line_cut_off_by_a_crash_is_ignored_with_a_warning(tmp_path: Path) -> None:
    run = Run.load(write_run(tmp_path / "run", dump(samples()) + dump(hang())[:40]))
    assert run.lines == (samples(),)
    assert len(run.warnings) == 1
    assert "samples.jsonl ends within line 2" in run.warnings[0]


def test_a_later_writer_removes_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", dump(samples()) + dump(samples())[:40])
    RunStore(path=path).append(crash())
    assert Run.load(path).lines == (samples(), crash())


def test_a_newer_schema_is_refused_with_the_version_that_wrote_it(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"nccl-bench 9\.9 with schema 99; this version reads up to \d+"):
        Run.load(write_run(tmp_path / "run", schema=99, version="9.9"))


def test_a_line_without_a_field_that_has_a_default_is_older_and_is_read() -> None:
    assert from_json(broken(drop="gpus")) == samples(gpus=None)
    throttled = samples(gpus=gpus(throttle_reasons=(ThrottleReason.POWER_CAP,), throttled_share=0.5, other_process=7))
    assert parse(dump(throttled)) == throttled


def test_older_schemas_are_read(tmp_path: Path) -> None:
    for schema in (1, 2):
        assert Run.load(write_run(tmp_path / f"run-{schema}", dump(samples()), schema=schema)).lines == (samples(),)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tool": "other"}, "was not written by nccl-bench"),
        ({"schema": None}, "was not written by nccl-bench"),
        ({"launch": {}}, "launch.world_size is null: it has to be a whole number"),
        ({"config": []}, "config is []: it has to be an object"),
        ({"worker": {"loop_cost_us": "0.04"}}, 'worker.loop_cost_us is "0.04": it has to be a number'),
        ({"worker": {"loop_cost_us": float("inf")}}, "not JSON: Infinity"),
        (
            {"worker": {"other_nccl_libraries": "libnccl.so"}},
            'worker.other_nccl_libraries is "libnccl.so": it has to be a list',
        ),
        ({"worker": {"other_nccl_libraries": [3]}}, "worker.other_nccl_libraries[0] is 3: it has to be text"),
        ({"worker": {"paths": {"arm": "torch"}}}, 'worker.paths is {"arm": "torch"}: it has to be a list'),
        ({"worker": {"paths": ["torch"]}}, 'worker.paths[0] is "torch": it has to be an object'),
        ({"worker": {"registered": ["torch"]}}, 'worker.registered is ["torch"]: it has to be an object'),
        ({"worker": {"user_arms": "mine"}}, 'worker.user_arms is "mine": it has to be a list'),
        ({"worker": {"user_arms": [None]}}, "worker.user_arms[0] is null: it has to be an object"),
    ],
)
def test_a_malformed_run_json_is_refused_with_the_field(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecordError) as caught:
        Run.load(write_run(tmp_path / "run", **changes))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_infinite_number_in_run_json_is_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", dump(samples()), worker={"loop_cost_us": 0.041})
    text = (path / "run.json").read_text()
    (path / "run.json").write_text(text.replace("0.041", "1e999"))
    with pytest.raises(RecordError, match=r"worker\.loop_cost_us is Infinity: it has to be finite"):
        Run.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"\\ud800"', "'\\ud800', which is no character"),
        ("[" * 40 + "]" * 40, "nested more than 32 levels deep"),
        ("[1, -9223372036854775809]", "environment.planted[1] is -9223372036854775809: it has to be between"),
    ],
)
def test_data_that_could_not_be_written_again_is_refused_anywhere(text: str, message: str, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", environment={"planted": "PLANTED"})
    file = path / "run.json"
    file.write_text(file.read_text().replace('"PLANTED"', text))
    with pytest.raises(RecordError, match=re.escape(message)):
        Run.load(path)


def test_facts_of_the_worker_may_be_missing(tmp_path: Path) -> None:
    for number, worker in enumerate((None, {}, {"loop_cost_us": None, "paths": None, "user_arms": None})):
        assert Run.load(write_run(tmp_path / f"run-{number}", worker=worker)).meta["worker"] == worker


def test_a_missing_or_binary_file_is_named_in_one_line(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    (path / "samples.jsonl").unlink()
    with pytest.raises(RecordError) as caught:
        Run.load(path)
    assert str(caught.value) == f"{path / 'samples.jsonl'} cannot be read: No such file or directory"
    (path / "samples.jsonl").write_bytes(b"\xff")
    with pytest.raises(RecordError, match="cannot be read: it is not text"):
        Run.load(path)


def test_a_path_that_is_not_a_run_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "run.json").write_text("[]")
    (tmp_path / "verified").mkdir()
    (tmp_path / "verified" / VERIFICATION).touch()
    for name, says in (
        (".", "it has no run.json"),
        ("file", "it is a file"),
        ("missing", "it does not exist"),
        ("list", "was not written by"),
        ("verified", "it holds a verification; give it to `nccl-bench report`"),
    ):
        with pytest.raises(RecordError) as caught:
            Run.load(tmp_path / name)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


def test_samples_twice_in_one_attempt_are_refused(tmp_path: Path) -> None:
    once = samples(), samples("torch"), hang(), samples(), samples("torch"), samples(case=case(8))
    text = "".join(map(dump, once))
    Run.load(write_run(tmp_path / "fine", text))
    for name, more, number in (
        ("line", dump(samples("torch")), 7),
        ("two runs", dump(samples(case=case(16))) + text, 8),
    ):
        path = write_run(tmp_path / name, text + more)
        with pytest.raises(RecordError) as error:
            Run.load(path)
        assert str(error.value).startswith(f"{path / 'samples.jsonl'}, line {number}: ")
        assert "gated twice" in str(error.value)


def test_records_and_reports_need_no_torch_and_records_no_pandas() -> None:
    def loaded(module: str) -> set[str]:
        code = f"import sys, {module}; print(*sys.modules)"
        return set(
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        )

    assert not {"torch", "pandas", "rich"} & loaded("nccl_bench.records.store")
    assert "torch" not in loaded("nccl_bench.report.terminal, nccl_bench.report.csv, nccl_bench.report.json")
