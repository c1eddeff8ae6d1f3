"""Summaries read back equal, and every other file is refused in one line."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.rows import rows_of
from nccl_bench.analysis.summary import COLUMNS
from nccl_bench.catalog.timings import Timing
from nccl_bench.errors import RecordError
from nccl_bench.records.schema import Line, Skipped
from nccl_bench.records.summary_csv import SummaryMedians, read_summary
from nccl_bench.report.csv import csv_report
from tests.support.synthetic_runs import case, crash, declined, hang, out_of_place, run, samples, sweep, wrong

LINES: list[Line] = [
    *sweep(sizes=(8, 1024)),
    samples("torch", case=case(64, "broadcast"), samples_us=(3.25, 3.5, 4.0)),
    samples("stream-free", case=out_of_place()),
    samples("dedicated-stream:twin", case=case(64, "broadcast")),
]
REAL = csv_report(Analysis.of(run(LINES)))
HEADER, *ROWS = REAL.splitlines()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "summary.csv"


def reading(file: Path, text: str | bytes) -> SummaryMedians:
    file.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
    return read_summary(file)


def refused(file: Path, text: str | bytes) -> str:
    with pytest.raises(RecordError) as error:
        reading(file, text)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(str(file))
    return message.removeprefix(str(file))


def changed(**cells: Any) -> str:
    """The real summary with cells of its first row replaced."""
    rows = list(csv.DictReader(io.StringIO(REAL)))
    rows[0].update(cells)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def test_medians_read_back_equal(file: Path) -> None:
    medians = reading(file, REAL)
    assert (medians.baseline, medians.world_size, medians.left_out) == ("dedicated-stream", 4, {})
    expected = {
        (line.case, line.timing, line.arm): row.time_us
        for line, row in zip(LINES, rows_of(run(LINES)), strict=True)
        if not isinstance(line, Skipped)
    }
    assert medians.times_us.keys() == expected.keys()
    assert medians.times_us == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("ending", ["\r\n", "\r", "\n"])
def test_line_ends_and_column_order_of_other_programs_are_read(file: Path, ending: str) -> None:
    assert reading(file, REAL.replace("\n", ending)) == reading(file, REAL)
    turned = "\n".join(",".join([*line.split(",")[::-1], "x"]) for line in REAL.splitlines())
    assert reading(file, turned).times_us == reading(file, REAL).times_us


def test_rows_without_a_time_are_left_out_and_counted(file: Path) -> None:
    lines: list[Line] = [hang(), crash(case=None), Skipped(case=case(), reason="large"), samples(samples_us=())]
    medians = reading(file, csv_report(Analysis.of(run([*lines, samples("torch")]))))
    assert [arm for _, _, arm in medians.times_us] == ["torch"]
    assert medians.left_out == {"hang": 1, "crash": 1, "skipped": 1, "ok": 1}
    for status, line in (("wrong", wrong), ("declined", declined)):
        lines = [line(arm="torch", timing=Timing.EAGER), samples("torch")]
        medians = reading(file, csv_report(Analysis.of(run(lines))))
        assert [timing for _, timing, _ in medians.times_us] == [Timing.GATED]
        assert medians.left_out == {status: 1}


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ({"time_us": "fast"}, "time_us is 'fast': a time is a number above 0"),
        ({"time_us": "0"}, "time_us is '0'"),
        ({"time_us": "-1"}, "time_us is '-1'"),
        ({"time_us": "nan"}, "time_us is 'nan'"),
        ({"time_us": "inf"}, "time_us is 'inf'"),
        ({"size_bytes": "1K"}, "size_bytes is '1K': it has to be a whole number from 1"),
        ({"size_bytes": "-8"}, "size_bytes is '-8'"),
        ({"size_bytes": "9" * 5000}, "size_bytes is '999"),
        ({"size_bytes": ""}, "size_bytes is ''"),
        ({"count": "1_0"}, "count is '1_0'"),
        ({"count": "0"}, "count is '0'"),
        ({"root": "-1"}, "root is '-1': it has to be a whole number from 0"),
        ({"world_size": "0"}, "world_size is '0'"),
        ({"collective": "allreduce"}, "collective is 'allreduce': known are all_reduce, "),
        ({"dtype": "half"}, "dtype is 'half': known are "),
        ({"redop": "plus"}, "redop is 'plus': known are sum, "),
        ({"placement": ""}, "placement is '': known are in-place, out-of-place"),
        ({"scenario": "alone"}, "scenario is 'alone': known are isolated, chain, skew"),
        ({"timing": "lazy"}, "timing is 'lazy': known are eager, gated, graph, enqueue"),
        ({"status": "fine"}, "status is 'fine': known are ok, wrong, declined, skipped, hang, crash"),
        ({"status": ""}, "status is ''"),
    ],
)
def test_a_malformed_cell_is_refused_with_its_line(file: Path, cells: dict[str, str], says: str) -> None:
    message = refused(file, changed(**cells))
    assert message.startswith(", line 2: ")
    assert says in message


def test_the_same_row_twice_is_refused(file: Path) -> None:
    message = refused(file, f"{REAL}{ROWS[3]}\n")
    assert message.startswith(f", line {len(ROWS) + 2}: ")
    assert message.endswith(" twice")


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ({"world_size": "8"}, "holds several runs: it has 1 baselines and 2 world sizes"),
        ({"baseline": "torch"}, "holds several runs: it has 2 baselines and 1 world sizes"),
    ],
)
def test_joined_summaries_are_refused(file: Path, cells: dict[str, str], says: str) -> None:
    assert says in refused(file, changed(**cells))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no column scenario, collective"),
        ("\n\n", "has no column"),
        ("a,b\n1,2\n", "is not a summary of nccl-bench"),
        ("{}", "is not a summary of nccl-bench"),
        (HEADER, "has no measured row"),
        (HEADER.replace("timing", "time") + "\n" + ROWS[0], "has no column timing"),
        (f"{HEADER}\n{ROWS[0][: len(ROWS[0]) // 2]}", "line 2: the line must have 31 cells"),
        (f"{HEADER}\n{ROWS[0]},1\n", "line 2: the line must have 31 cells"),
        (f'{HEADER}\n"{ROWS[0]}\n', "unexpected end of data"),
        (b"\xff\xfe", "cannot be read"),
        (REAL.encode("utf-16"), "cannot be read"),
        ("\0" * 9, "not a summary"),
        ("x" * 200_000, ""),
    ],
)
def test_a_file_that_is_not_a_summary_is_refused_in_one_line(file: Path, text: str | bytes, says: str) -> None:
    says = says.replace("31", str(len(COLUMNS)))
    assert says in refused(file, text)


def test_a_missing_summary_is_refused_in_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.csv", tmp_path):
        with pytest.raises(RecordError) as caught:
            read_summary(path)
        assert re.fullmatch(f"{re.escape(str(path))} cannot be read: [A-Za-z, ]+", str(caught.value))


def medians_or_one_line(file: Path, text: str | bytes) -> None:
    message = str(file)
    try:
        medians = reading(file, text)
        assert medians.times_us
        assert all(0 < time_us < float("inf") for time_us in medians.times_us.values())
        assert medians.world_size >= 1
    except RecordError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    assert str(file) in message


SAME_FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)


@SAME_FILE
@given(
    text=st.text()
    | st.binary()
    | st.text(alphabet='ok,1."\n\r\x0b\x85\u2028\0', max_size=60).map((HEADER + "\n").__add__)
)
def test_any_text_gives_medians_or_one_line(file: Path, text: str | bytes) -> None:
    medians_or_one_line(file, text)


@SAME_FILE
@given(
    at=st.integers(0, len(REAL)),
    length=st.integers(0, 40) | st.integers(0, len(REAL)),
    new=st.text(max_size=8) | st.sampled_from([",", '"', "\n", "0", "-", "e9", "\u0663", REAL]),
)
def test_a_changed_summary_gives_medians_or_one_line(file: Path, at: int, length: int, new: str) -> None:
    medians_or_one_line(file, REAL[:at] + new + REAL[at + length :])


@SAME_FILE
@given(end=st.integers(0, len(REAL) - 1))
def test_a_truncated_summary_never_loses_a_row_silently(file: Path, end: int) -> None:
    """A part of a row is refused. A row that is cut after its last needed cell is whole."""
    try:
        medians = reading(file, REAL[:end])
    except RecordError:
        return
    assert len(medians.times_us) == REAL[:end].count("\n") - (REAL[:end][-1] == "\n")
