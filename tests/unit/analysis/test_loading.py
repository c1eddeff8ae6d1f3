"""Load a run to compare from a path, or refuse it in one line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.failures import exit_code_of
from nccl_bench.analysis.loading import load_run
from nccl_bench.analysis.machine import differences
from nccl_bench.analysis.one_run import compare_arms
from nccl_bench.analysis.two_sides import compare_sides
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits, recorded_limits
from nccl_bench.errors import ExitCode, RecordError
from nccl_bench.records.schema import SCHEMA, Line, Skipped, dump
from nccl_bench.report.csv import csv_report
from tests.support.synthetic_runs import case, crash, hang, meta, run, samples, sweep, wrong

NCCL_TESTS = sorted((Path(__file__).parents[2] / "data" / "nccl-tests").iterdir())
LINES = [*sweep(sizes=(8, 1024), timings=(Timing.GATED,)), samples("dedicated-stream:twin", case=case(8))]
TEXT = "".join(map(dump, LINES))
META = meta() | {
    "environment": {
        "hostname": "node1",
        "cpu": "a CPU",
        "gpus": [{"name": "NVIDIA H200", "driver": "580"}],
        "variables": {"NCCL_ALGO": "Ring"},
    },
    "worker": {"torch": "2.13.0", "transport": {"version": "2.28.9"}},
    "config": meta()["config"] | {"threshold": 0.02, "limits": [{"threshold": "5%", "sizes": ":1K"}]},
}


def write(path: Path, text: str | bytes = TEXT, of: object = META) -> Path:
    path.mkdir(exist_ok=True)
    (path / "run.json").write_text(json.dumps(of))
    (path / "samples.jsonl").write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def summary_csv(lines: Sequence[Line]) -> str:
    return csv_report(Analysis.of(run(lines)))


def refused(path: Path) -> str:
    with pytest.raises(RecordError) as error:
        load_run(path)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    return message


def test_a_directory_is_loaded_with_every_round(tmp_path: Path) -> None:
    lines: list[Line] = [
        samples("torch", rounds=(3, 5, 7), samples_us=(1.0, 2.0, 4.0)),
        wrong(arm="stream-free"),
        samples("torch", case=case(8), samples_us=(), discarded=3),
        Skipped(case=case(2**34), reason="large"),
        hang(),
    ]
    loaded = load_run(write(tmp_path / "run", "".join(map(dump, lines))))
    assert loaded.comparable.cells == {(case(), Timing.GATED, "torch"): {3: 1.0, 5: 2.0, 7: 4.0}}
    assert loaded.comparable.arms == ("dedicated-stream", "stream-free", "torch", "torch-async")
    assert loaded.comparable.name == str(tmp_path / "run")
    assert (loaded.comparable.medians_only, loaded.exit_code, loaded.warnings) == (False, ExitCode.WRONG_RESULT, ())
    assert loaded.meta == META
    assert loaded.run is not None
    assert loaded.run.lines == tuple(lines)
    for name, of, code in (
        ("right", LINES, ExitCode.OK),
        ("hung", [*LINES, hang()], ExitCode.HANG),
        ("crashed", [*LINES, crash()], ExitCode.SETUP),
    ):
        assert load_run(write(tmp_path / name, "".join(map(dump, of)))).exit_code is code


def test_a_run_with_one_round_per_cell_has_medians_only(tmp_path: Path) -> None:
    single = dump(samples("torch", samples_us=(1.0,)))
    assert load_run(write(tmp_path / "one", single)).comparable.medians_only
    # A run without cells has no medians either.
    assert not load_run(write(tmp_path / "none", "")).comparable.medians_only
    assert not load_run(
        write(tmp_path / "two", single + dump(samples("torch", case=case(8), samples_us=(1.0, 2.0))))
    ).comparable.medians_only


def test_a_run_that_ended_early_has_a_warning(tmp_path: Path) -> None:
    killed = load_run(write(tmp_path / "run", TEXT + TEXT[:40], META | {"status": "running"}))
    assert len(killed.comparable.cells) == len(LINES)
    assert [re.split(", |\\. ", text)[0] for text in killed.warnings] == [
        f"{tmp_path / 'run' / 'samples.jsonl'} ends within line {len(LINES) + 1}",
        "the run is still running or killed",
    ]


def test_a_summary_is_loaded_with_medians_only(tmp_path: Path) -> None:
    (tmp_path / "summary.csv").write_text(summary_csv([*LINES, wrong(arm="torch", case=case(64))]))
    loaded = load_run(tmp_path / "summary.csv")
    assert loaded.comparable.cells.keys() == {(line.case, line.timing, line.arm) for line in LINES}
    assert all(len(rounds) == 1 for rounds in loaded.comparable.cells.values())
    assert (loaded.comparable.medians_only, loaded.run, loaded.exit_code) == (True, None, ExitCode.WRONG_RESULT)
    assert loaded.left_out == {"wrong": 1}
    # The twin measures noise and is not an arm.
    assert loaded.comparable.arms == ("dedicated-stream", "stream-free", "torch", "torch-async")
    assert list(differences([("a", loaded.meta), ("b", META)])) == []
    assert list(differences([("a", loaded.meta), ("b", META | {"launch": {"world_size": 2}})])) == [
        "ranks: 4 (a); 2 (b)"
    ]
    (warning,) = loaded.warnings
    assert "does not name its machine" in warning


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([], ExitCode.OK),
        ([Skipped(case=case(2**34), reason="large")], ExitCode.OK),
        ([hang(), wrong(arm="torch", case=case(64))], ExitCode.WRONG_RESULT),
        ([crash(), hang()], ExitCode.HANG),
        ([crash()], ExitCode.SETUP),
        # The cell has no kept batch.
        ([samples(case=case(64), samples_us=(), discarded=3)], ExitCode.SETUP),
    ],
)
def test_a_summary_has_the_exit_code_of_its_run(tmp_path: Path, lines: list[Line], code: ExitCode) -> None:
    made = run([*LINES, *lines])
    (tmp_path / "summary.csv").write_text(summary_csv(made.lines))
    assert load_run(tmp_path / "summary.csv").exit_code is code is exit_code_of(made)


def test_the_same_run_is_recognised_in_any_form(tmp_path: Path) -> None:
    first = load_run(write(tmp_path / "first"))
    (tmp_path / "first" / "summary.csv").write_text(summary_csv(LINES))
    (tmp_path / "link").symlink_to(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    # A summary has rounded medians.
    shutil.copy(tmp_path / "first" / "summary.csv", tmp_path / "alone.csv")
    for name in ("first", "link", "copy", "first/../first", "first/summary.csv", "alone.csv"):
        assert first.same_as(load_run(tmp_path / name))
    later = write(tmp_path / "later", of=META | {"started": "2026-10-02T02:00:00+00:00"})
    elsewhere = write(tmp_path / "elsewhere", of=META | {"environment": {"hostname": "node2"}})
    other = write(tmp_path / "other", TEXT.replace("8.39", "8.38"))
    assert TEXT.count("8.39")
    (tmp_path / "other.csv").write_text(summary_csv(LINES[:-1]))
    for path in (later, elsewhere, other, tmp_path / "other.csv"):
        assert not first.same_as(load_run(path))
    shutil.copy(tmp_path / "alone.csv", tmp_path / "copy.csv")
    alone = load_run(tmp_path / "alone.csv")
    assert alone.same_as(load_run(tmp_path / "copy.csv"))
    assert alone.same_as(first)
    assert not alone.same_as(load_run(tmp_path / "other.csv"))


def test_summaries_with_different_digits_are_of_two_runs(tmp_path: Path) -> None:
    for name, time_us in (("one", 8.0), ("near", 8.00000001), ("far", 8.000001)):
        of = [samples("torch", samples_us=(7.0, time_us, 9.0))]
        write(tmp_path / name, "".join(map(dump, of)))
        (tmp_path / f"{name}.csv").write_text(summary_csv(of))
    for path in ("one", "one.csv"):
        assert load_run(tmp_path / path).same_as(load_run(tmp_path / "near.csv"))
        assert not load_run(tmp_path / path).same_as(load_run(tmp_path / "far.csv"))


@pytest.mark.parametrize("path", NCCL_TESTS, ids=lambda path: path.name)
def test_the_output_of_nccl_tests_is_loaded_as_a_run(path: Path) -> None:
    loaded = load_run(path)
    assert loaded.comparable.arms == ("nccl-tests",)
    assert loaded.comparable.cells
    assert {arm for _, _, arm in loaded.comparable.cells} == {"nccl-tests"}
    assert loaded.run is not None
    # Each case was measured once.
    assert loaded.comparable.medians_only
    known = dict(
        line.split(": ", 1) for line in differences([("a", loaded.meta), ("b", META | {"launch": {"world_size": 99}})])
    )
    assert "ranks" in known


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (META | {"schema": SCHEMA + 1}, "use that version or a later one"),
        (META | {"tool": "another"}, "was not written by nccl-bench"),
        ({"schema": 1}, "was not written by nccl-bench"),
        ([], "was not written by nccl-bench"),
        (META | {"worker": 3}, "worker is 3: it has to be an object"),
        (META | {"worker": {"transport": "nccl"}}, 'worker.transport is "nccl": it has to be an object'),
        (META | {"environment": {"gpus": {}}}, "environment.gpus is {}: it has to be a list"),
        (META | {"environment": {"gpus": ["H200"]}}, 'environment.gpus[0] is "H200": it has to be an object'),
        (META | {"environment": {"variables": [1]}}, "environment.variables is [1]: it has to be an object"),
        (META | {"config": META["config"] | {"arms": [["torch"]]}}, 'config.arms[0] is ["torch"]: it has to be text'),
    ],
)
def test_a_newer_run_or_another_file_is_refused_in_one_line(tmp_path: Path, of: object, says: str) -> None:
    assert says in refused(write(tmp_path / "run", of=of))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TEXT[:300] + "\n", "line 1: not JSON"),
        (TEXT + "\n", f"line {len(LINES) + 1}: "),
        (TEXT + "{}\n", f"line {len(LINES) + 1}: kind is null"),
        (TEXT.replace('"samples_us": [', '"samples_us": [0.0, ', 1), "line 1: "),
        (TEXT.replace('"rounds": [', '"rounds": ["a", ', 1), "line 1: samples.rounds[0] is"),
        (TEXT.replace('"rounds": [', '"rounds": [true, ', 1), "line 1: samples.rounds[0] is true"),
        (TEXT.replace('"rounds": [', '"rounds": [0.5, ', 1), "line 1: samples.rounds[0] is 0.5"),
        (TEXT.replace('"samples_us": [', '"samples_us": [1e999, ', 1), "line 1: samples_us[0] is Infinity"),
        (TEXT.replace('"samples_us": [', '"samples_us": [NaN, ', 1), "line 1: not JSON"),
        (TEXT.replace('"samples_us": [', '"samples_us": [null, ', 1), "line 1: samples.samples_us[0] is null"),
        (b"\xff\n", "cannot be read"),
    ],
)
def test_malformed_samples_are_refused_in_one_line_with_the_place(tmp_path: Path, text: str | bytes, says: str) -> None:
    assert says in refused(write(tmp_path / "run", text))


def test_a_path_without_a_run_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "it has no run.json" in refused(tmp_path / "empty")
    assert "cannot be read" in refused(tmp_path / "nowhere")
    assert "cannot be read" in refused(tmp_path / "nowhere.csv")
    for name, content in (
        ("empty.txt", ""),
        ("other.txt", "hello\n"),
        ("other.json", "{}"),
        ("cut.json", '{"a'),
        ("no.csv", "a,b"),
    ):
        (tmp_path / name).write_text(content)
        refused(tmp_path / name)
    without = write(tmp_path / "without")
    (without / "samples.jsonl").unlink()
    assert "cannot be read" in refused(without)


PLACES = [
    (),
    *((key,) for key in META),
    *((key, inner) for key in ("config", "launch", "environment", "worker") for inner in META[key]),
    ("worker", "transport", "version"),
    ("environment", "gpus", 0),
    ("environment", "gpus", 0, "driver"),
    ("environment", "variables", "NCCL_ALGO"),
    ("config", "limits", 0),
    ("config", "limits", 0, "sizes"),
    ("config", "arms", 1),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
SAME_FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)


def load_and_compare(path: Path) -> None:
    """Load the run at ``path`` and compare it, as the command does; an error must be one line."""
    message = "fine"
    try:
        loaded = load_run(path)
        list(differences([("a", loaded.meta), ("b", META)]))
        if loaded.run is not None:
            compare_arms(loaded.comparable, recorded_limits(loaded.meta["config"], 0.02, "the run"))
        compare_sides([loaded.comparable], [loaded.comparable], Limits(default=0.02))
    except RecordError as error:
        message = str(error)
    assert len(message.splitlines()) == 1


@SAME_FILE
@given(place=st.sampled_from(PLACES), value=JSON)
@example(place=("config", "baseline"), value="")
def test_a_run_json_with_any_value_anywhere_is_loaded_or_refused_in_one_line(
    tmp_path: Path, place: tuple[str | int, ...], value: object
) -> None:
    of: Any = deepcopy(META)
    if place:
        inner = of
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
    load_and_compare(write(tmp_path / "run", of=of if place else value))


@SAME_FILE
@given(
    at=st.integers(0, len(TEXT)),
    length=st.integers(0, 30) | st.integers(0, len(TEXT)),
    new=st.text(max_size=6) | st.sampled_from(["\n", "null", "-1", "[]", "{", "1e999", "NaN", TEXT]),
)
def test_samples_with_any_mutation_are_loaded_or_refused_in_one_line(
    tmp_path: Path, at: int, length: int, new: str
) -> None:
    text = (TEXT[:at] + new + TEXT[at + length :]).encode("utf-8", "surrogatepass")
    load_and_compare(write(tmp_path / "run", text))


@SAME_FILE
@given(content=st.text() | st.binary())
def test_any_file_is_loaded_or_refused_in_one_line(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    load_and_compare(path)
    shutil.copy(path, tmp_path / "run.json")
    load_and_compare(tmp_path)
