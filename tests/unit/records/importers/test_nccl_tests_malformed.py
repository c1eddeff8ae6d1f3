from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.errors import RecordError
from nccl_bench.records.importers import Imported, read
from nccl_bench.records.importers.nccl_tests.lines import Line
from nccl_bench.records.importers.nccl_tests.rows import pieces_of_rows
from nccl_bench.records.run import FILES as FILES_OF_A_RUN
from nccl_bench.records.schema import dump, parse
from nccl_bench.report.csv import csv_report
from nccl_bench.report.json import json_report
from nccl_bench.report.terminal import TerminalReport
from tests.support.nccl_tests_files import DATA, DOCUMENT, FILES, TABLE, document, run_of, samples_of

MISSING = "made-up.txt: bfloat16 sum: 1 of 2 sizes in the settings have no complete row: 8388608 B"


def test_a_table_without_its_end_gives_its_whole_rows_and_a_warning(written: Any) -> None:
    imported = written(text=TABLE[: TABLE.index("203.71") + 8])
    assert {line.case.size_bytes for line in samples_of(imported)} == {8}
    assert imported.left_out == (
        "made-up.txt: the table has no end: nccl-tests did not finish, or its output was cut; complete rows: 1",
        "made-up.txt: the row on line 15: it is the end of the file, and has no end of line",
        MISSING,
    )


def test_a_broken_row_is_left_out_and_counted(written: Any) -> None:
    imported = written(("-1    62.48", "-1vm:1:2 [0] NCCL INFO\n    62.48"))
    assert {line.case.size_bytes for line in samples_of(imported)} == {8}
    assert imported.left_out == (
        "made-up.txt: the row on line 15: it has 8 cells, and the table has 13 columns",
        "made-up.txt: line 16 holds a piece of a row",
        MISSING,
    )


def test_json_of_a_failed_test_gives_its_whole_rows_and_a_warning(written: Any) -> None:
    partial = {key: value for key, value in DOCUMENT["results"][1].items() if key != "actual_iterations"}
    whole = {key: value for key, value in DOCUMENT.items() if key not in ("out_of_bounds", "end_time")}
    imported = written(text=json.dumps(whole | {"results": [DOCUMENT["results"][0], partial]}))
    assert {line.case.size_bytes for line in samples_of(imported)} == {8}
    assert imported.left_out == ("made-up.txt: nccl-tests did not finish; complete rows: 1", MISSING)
    assert imported.finished is None
    assert written(text=json.dumps(whole)).left_out == ("made-up.txt: nccl-tests did not finish; complete rows: 2",)


def test_json_that_counts_wrong_results_which_no_row_has_is_reported(written: Any) -> None:
    imported = written(text=document(out_of_bounds={"count": 3, "okay": "false"}))
    assert imported.left_out == ("made-up.txt: nccl-tests counted 3 wrong results, and no complete row has them",)


UNKNOWN = "it is not the output of a known tool (nccl-tests: give its JSON (-J), or everything that it printed)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", UNKNOWN),
        ("size_bytes,time_us\n8,9.5\n", UNKNOWN),
        ("{}", UNKNOWN),
        ('{"a": 1}', UNKNOWN),
        ('{"schema": 2, "tool": "nccl-bench", "version": "0.1.0", "config": {}}', UNKNOWN),
        (document(version=None), "version, null, is not a whole number"),
        ('{"version": 3', "not JSON"),
        (document(version=4), "version 4 of nccl-tests' JSON, and this nccl-bench reads up to 3"),
        (document(results=[]), "no complete row"),
        (document(start_time="today"), 'start_time is "today"'),
        (document(args=[]), "args[0] is null"),
        (document().replace('"size": 8,', '"size": "8",'), 'results[0].size, "8", is not a whole number from 0'),
        (
            document(results=[DOCUMENT["results"][0] | {"count": 5}]),
            "8 B and a count of 5 bfloat16, which does not fit",
        ),
        (document().replace("11.01281", "0"), "results[0].in_place.time, 0, is not a time in microseconds"),
        (document().replace("11.01281", '"nan"'), 'results[0].in_place.time, "nan", is not a time'),
        (document().replace("11.01281", "1e999"), "results[0].in_place.time is Infinity: it has to be finite"),
        (document().replace("11.01281", "1e-300"), "is not a time"),
        (document().replace("11.01281", "1" * 400), "it has to be between -2^63 and 2^63"),
        (document().replace('"size": 8,', f'"size": {2**60},'), "is not a whole number from 0"),
        (document(config=DOCUMENT["config"] | {"graph": 2**50}), "results[0].actual_iterations times"),
        (TABLE.replace("   time ", "   tyme "), "have no time"),
        (TABLE.replace("# Collective test starting: all_reduce_perf\n", ""), "--collective NAME"),
        (TABLE + TABLE, "(table from line 22) both have all_reduce bfloat16 sum 8 B (eager)"),
        (re.sub("#  Rank.*", "", TABLE), "lists 0 ranks"),
        (re.sub("#  Rank  3.*", "", TABLE), "lists 3 ranks, but each process has 4, and 3 is not a multiple of 4"),
        (TABLE.replace("#  Rank  3", "#  Rank  999999999"), "4 ranks up to rank 999999999, and rank 3 is missing"),
        (
            document(config=DOCUMENT["config"] | {"nthreads": 10**9}),
            "1000000000 ranks: it has to be between 1 and 1,000,000",
        ),
        (TABLE.replace("all_reduce_perf", "reduce_perf"), "has the root -1"),
        (document().replace('"vm"', json.dumps("v" * 5000)), "it can have at most 4,096 characters"),
        (document().replace("10.112", "1e200"), "in_place_per_iter.min_us, 1e+200, is not a time"),
        (TABLE.split("           8")[0], "no complete row"),
        ("[" * 200_000, UNKNOWN),
        ('{"a":' * 200_000, "it is nested more than 32 levels deep"),
    ],
)
def test_import_refuses_a_malformed_file_in_one_line(text: str, says: str, written: Any) -> None:
    with pytest.raises(RecordError) as caught:
        written(text=text)
    message = str(caught.value)
    assert says in message
    assert "made-up.txt: " in message
    assert "\n" not in message


@pytest.mark.parametrize("name", FILES_OF_A_RUN)
def test_import_of_a_file_of_a_run_says_to_give_its_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"kind": "samples"}\n{}\n')
    with pytest.raises(RecordError, match="to report or compare a run, give its directory"):
        read(tmp_path / name)


def test_import_refuses_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for name, says in (("missing", "No such file"), (".", "directory")):
        with pytest.raises(RecordError, match=f"cannot be read: .*{says}"):
            read(tmp_path / name)


MANY = settings(max_examples=50, deadline=None)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([0, -1, 2**63])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@pytest.fixture(scope="module")
def any_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any") / "file"


def read_or_refused(path: Path, data: bytes) -> Imported | RecordError:
    path.write_bytes(data)
    try:
        return read(path)
    except RecordError as error:
        return error


def outcome(path: Path, data: bytes) -> Imported | None:
    """Read ``data`` as a file, and return ``None`` if it is refused in one line.

    Everything else has to be a run that can be written, read and reported.
    """
    imported = read_or_refused(path, data)
    if isinstance(imported, RecordError):
        assert str(imported).startswith(str(path))
        assert "\n" not in str(imported)
        return None
    assert imported.lines
    assert tuple(parse(dump(line)) for line in imported.lines) == imported.lines
    run = run_of(imported)
    for report in (TerminalReport(width=80, styled=False).render, json_report, csv_report):
        assert report(Analysis.of(run))
    return imported


@MANY
@given(data=st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode(errors="replace")))
def test_import_refuses_any_bytes_in_one_line(any_file: Path, data: bytes) -> None:
    assert outcome(any_file, data) is None


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_any_truncation_gives_whole_rows_or_one_line(any_file: Path, file: Path) -> None:
    data = file.read_bytes()
    whole = read(file)
    end = data.find(b"# Out of bounds values :")
    kept = []
    for length in range(len(data)):
        imported = read_or_refused(any_file, data[:length])
        if isinstance(imported, RecordError):
            assert "\n" not in str(imported)
            continue
        assert imported.lines == whole.lines[: len(imported.lines)]
        assert bool(imported.left_out) == (length < end + len("# Out of bounds values :"))
        kept.append(len(imported.lines))
    assert set(kept) == (set() if file.suffix == ".json" else {2, 4})


@MANY
@given(value=VALUES)
def test_import_refuses_any_other_json_in_one_line(any_file: Path, value: object) -> None:
    assert outcome(any_file, json.dumps(value).encode()) is None
    assert outcome(any_file, json.dumps({"version": 3, "results": value, "config": value}).encode()) is None


def places(value: object) -> Iterator[tuple[Any, Any]]:
    """Every container below ``value`` with each of its keys."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_json_with_changed_fields_gives_a_run_or_one_line(any_file: Path, data: st.DataObject) -> None:
    changed = deepcopy(DOCUMENT)
    for _ in range(data.draw(st.integers(1, 2))):
        container, key = data.draw(st.sampled_from(list(places(changed))))
        if data.draw(st.booleans()):
            del container[key]
        else:
            container[key] = data.draw(VALUES)
    outcome(any_file, json.dumps(changed).encode())


@MANY
@given(data=st.data())
def test_a_damaged_table_gives_a_run_or_one_line(any_file: Path, data: st.DataObject) -> None:
    text = (DATA / "all_reduce-per-iteration.txt").read_text(encoding="utf-8")
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, min(len(text), begin + 20)))
    inserted = data.draw(st.text(max_size=5) | st.integers().map(str) | st.sampled_from(["nan", "-1", "\n", "9" * 400]))
    outcome(any_file, (text[:begin] + inserted + text[end:]).encode(errors="replace"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("line", ["9" * 400_000 + "x", "9 " * 200_000 + "x", "float" + " " * 400_000 + "x"])
def test_a_long_line_between_rows_is_read_in_linear_time(line: str) -> None:
    # A search that begins again at every digit takes minutes.
    assert not list(pieces_of_rows([Line(1, line)]))


@pytest.mark.timeout(60)
def test_a_long_line_of_a_rank_is_read_in_linear_time(any_file: Path) -> None:
    text = (DATA / "all_reduce.txt").read_text(encoding="utf-8")
    outcome(any_file, text.replace("NVIDIA H200", " " * 400_000 + "#", 1).encode())
