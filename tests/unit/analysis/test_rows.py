"""Rows of the summary as columns: each way to look at them shows the same rows."""

from __future__ import annotations

import math

from nccl_bench.analysis.rows import Rows, rows_of
from nccl_bench.records.schema import Line, Skipped
from tests.support.synthetic_runs import case, crash, hang, run, samples, wrong

# Rows with samples and rows without, in turn.
LINES: list[Line] = [
    samples("stream-free", samples_us=(1.0, 2.0, 3.0)),
    Skipped(case=case(2**40), reason="large"),
    samples("torch"),
    hang(),
    wrong(arm="torch", case=case(8)),
    crash(case=None),
]


def test_columns_rows_and_parts_agree_where_some_rows_have_no_samples() -> None:
    rows = rows_of(run(LINES))
    assert [row.status for row in rows] == ["ok", "skipped", "ok", "hang", "wrong", "crash"]
    assert [rows[index] for index in range(len(rows))] == list(rows)
    assert rows[-1] == list(rows)[-1]
    for name, values in rows.columns().items():
        assert list(values) == [getattr(row, name) for row in rows], name
    assert list(rows.at([1, 2, 5])) == [list(rows)[index] for index in (1, 2, 5)]
    assert list(rows[2:]) == list(rows)[2:]


def test_numbers_that_a_row_lacks_are_nan() -> None:
    first, second, *_ = rows_of(run(LINES)).numbers("time_us").tolist()
    assert first == 2.0
    assert math.isnan(second)


def test_rows_can_be_given_as_objects() -> None:
    rows = list(rows_of(run(LINES)))
    assert list(Rows.of(rows)) == rows
    assert Rows.of(rows).column("arm") == [row.arm for row in rows]
    assert list(Rows.of()) == []
