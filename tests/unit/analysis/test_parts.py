"""The share of a collective that is hidden behind a product, and what the two cost each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nccl_bench.analysis.joined_launches import join_launches
from nccl_bench.analysis.parts import PartFigures
from nccl_bench.analysis.rows import rows_of
from nccl_bench.records.scenario_times import PartTimes
from tests.support.synthetic_runs import part_times, run, samples


def hidden(**changes: object) -> float | None:
    return PartFigures.of(part_times(**changes)).hidden_share


def test_half_of_the_time_that_the_collective_adds_is_gone_and_the_product_is_a_tenth_slower() -> None:
    figures = PartFigures.of(part_times())
    assert figures.hidden_share == pytest.approx(0.5)
    assert figures.product_slowdown == pytest.approx(0.1)
    assert figures.collective_slowdown == pytest.approx(1.0)
    assert (figures.product_us, figures.collective_us) == (800.0, 210.0)
    assert (figures.sequence_us, figures.together_us) == (1000.0, 900.0)


def test_nothing_is_hidden_if_together_takes_as_long_as_in_sequence_and_everything_if_as_long_as_the_product() -> None:
    times = part_times()
    assert hidden(together_us=times.sequence_us) == 0
    assert hidden(together_us=times.product_us) == 1
    assert hidden(together_us=(1100.0, 1102.0, 1098.0)) == pytest.approx(-0.5)


def test_no_share_is_hidden_of_a_collective_that_adds_no_time() -> None:
    assert hidden(sequence_us=part_times().product_us) is None


def test_differences_are_of_one_round_so_a_machine_that_slows_down_changes_no_share() -> None:
    slowing = {
        name: tuple(time * factor for time, factor in zip(getattr(part_times(), name), (1, 2, 4), strict=True))
        for name in ("product_us", "sequence_us", "together_us")
    }
    assert hidden(**slowing) == pytest.approx(0.5, rel=0.01)


def test_without_events_nothing_is_said_about_slowdowns() -> None:
    figures = PartFigures.of(part_times(collective_together_us=(), product_in_sequence_us=()))
    assert (figures.product_slowdown, figures.collective_slowdown) == (None, None)


def test_a_row_has_the_figures_of_its_parts_and_none_without_parts() -> None:
    with_parts, without = rows_of(run([samples("torch", parts=part_times()), samples("stream-free")]))
    assert (with_parts.product, with_parts.hidden_share) == ("4096x4096x4096", pytest.approx(0.5))
    assert (without.product, without.product_us, without.hidden_share) == (None, None, None)


def test_launches_are_joined_and_a_time_that_one_of_them_lacks_is_left_out() -> None:
    lines = [
        samples(launch=1, parts=part_times()),
        samples(launch=2, parts=replace(part_times(), product="2048x2048x2048", collective_together_us=())),
    ]
    joined = join_launches(run(lines)).samples.parts[0]
    assert isinstance(joined, PartTimes)
    assert joined.product == "4096x4096x4096 or 2048x2048x2048"
    assert joined.product_us == part_times().product_us * 2
    assert joined.collective_together_us == ()
