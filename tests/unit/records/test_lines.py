"""Lines that are kept as columns are the same lines."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from nccl_bench.catalog.timings import Timing
from nccl_bench.records.columns import COLUMNS
from nccl_bench.records.columns_builder import ColumnsBuilder
from nccl_bench.records.kernels import Kernels
from nccl_bench.records.lines import Lines
from nccl_bench.records.schema import BuffersRegistered, Line, Samples
from tests.support.synthetic_runs import (
    case,
    crash,
    declined,
    gpus,
    hang,
    imported,
    part_times,
    per_iteration,
    samples,
    wrong,
)

LINES: tuple[Line, ...] = (
    hang(),
    samples(
        per_iteration=per_iteration(),
        gpus=gpus(),
        launch=3,
        arms_before=(0, 2, 1),
        began_s=(1.5, 2.0, 3.0),
        late=0,
        parts=part_times(),
    ),
    imported(case=case(2048)),
    crash(case=None),
    wrong(case=case(collective="broadcast"), registered=BuffersRegistered.PARTLY, kernels=Kernels(distinct=())),
    declined(),
    samples("torch", Timing.GRAPH, samples_us=(9.0, 9.5), rounds=(3, 2**62)),
    crash(),
)


def test_columns_give_back_every_line_at_its_place() -> None:
    lines = Lines.of(LINES)
    assert tuple(lines) == LINES
    assert [lines[at] for at in range(len(LINES))] == [*LINES]
    assert (lines[-1], lines[1:3]) == (LINES[-1], LINES[1:3])
    assert lines == LINES
    assert lines != LINES[1:]
    assert lines.only(np.array([True, False, True, False, True]), [7]) == tuple(LINES[at] for at in (1, 4, 6, 7))


def test_every_field_of_samples_has_a_column() -> None:
    assert {*COLUMNS} == {field.name for field in fields(Samples)}


def test_lines_of_equal_length_are_rows_of_a_matrix() -> None:
    times_us = Lines.of(LINES).samples.samples_us
    matrices = [(lines.tolist(), times_us.matrix(lines).tolist()) for lines in times_us.of_equal_length(1)]
    assert matrices == [([4], [[9.0, 9.5]]), ([0], [[8.4, 8.3, 8.5]]), ([1], [[8.4, 8.3, 8.5]])]


@pytest.mark.parametrize("kept", [[4, 0], [True, False, False, False, True]])
def test_some_lines_keep_their_values(kept: list[int] | list[bool]) -> None:
    of_all = Lines.of(LINES).samples
    assert {*of_all.take(np.array(kept)).lines()} == {LINES[1], LINES[6]}


def test_columns_stay_as_they_were_built_while_more_lines_are_appended() -> None:
    builder = ColumnsBuilder()
    built = []
    for times_us in ((8.0, 9.0), (1.0, 2.0, 3.0)):
        builder.append(builder.columns_of([samples("torch", samples_us=times_us)]))
        built.append(builder.build())
    assert [columns.samples_us.numbers.tolist() for columns in built] == [[8.0, 9.0], [1.0, 2.0, 3.0]]
