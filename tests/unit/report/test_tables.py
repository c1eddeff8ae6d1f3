"""Tables of figures leave out the baseline's twin, which measures noise and is not an arm."""

from __future__ import annotations

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.catalog.cases import Scenario
from nccl_bench.report.question import question_tables
from nccl_bench.report.tables import measurement_tables, percentile_tables
from tests.support.synthetic_runs import case, declined, hang, per_iteration, run, samples


def test_the_twin_is_neither_a_column_nor_a_row() -> None:
    arms = ("stream-free", "dedicated-stream", "dedicated-stream:twin")
    analysis = Analysis.of(run([samples(arm, per_iteration=per_iteration()) for arm in arms]))
    latency, bandwidth = measurement_tables(analysis)
    for table in (latency, bandwidth):
        assert [column.name for column in table.columns] == ["size", "dedicated-stream", "stream-free"]
    (percentiles,) = percentile_tables(analysis)
    assert [cell.strip() for cell in percentiles.columns[1].cells] == ["stream-free", "dedicated-stream"]


def test_a_declined_cell_says_so_and_is_not_compared() -> None:
    analysis = Analysis.of(run([samples("dedicated-stream"), declined(arm="torch")]))
    latency, bandwidth = measurement_tables(analysis)
    assert [table.columns[2].cells[0].strip() for table in (latency, bandwidth)] == ["declined"] * 2
    assert (analysis.comparisons, analysis.failures, analysis.exit_code) == ((), (), 0)


def test_a_hang_of_contended_communicators_is_a_deadlock_in_the_table_and_in_the_failures() -> None:
    of_contended = case(scenario=Scenario.CONTENDED, streams=2)
    for what, word in ((of_contended, "DEADLOCK"), (case(), "HANG")):
        analysis = Analysis.of(run([samples("dedicated-stream", case=what), hang(case=what, arm="torch")]))
        latency = next(measurement_tables(analysis))
        assert [column.cells[0].strip() for column in latency.columns if column.name == "torch"] == [word]
        assert analysis.failures[0].startswith(
            f"{word}: {what.label}, arm torch, rank 3 on node7: in gated after 120 s"
        )


def test_an_arm_that_deadlocks_in_every_case_of_a_kind_has_a_column_in_its_answer() -> None:
    one, two = (case(scenario=Scenario.CONTENDED, streams=streams) for streams in (1, 2))
    arms = ("dedicated-stream", "dedicated-stream:twin", "stream-free")
    lines = [samples(arm, case=what) for what in (one, two) for arm in arms]
    analysis = Analysis.of(run([*lines, samples("torch", case=one), hang(case=two, arm="torch")]))
    _, of_two = question_tables(analysis, 120)
    assert "DEADLOCK" in [column.cells[0].strip() for column in of_two.columns if column.name == "torch"]
