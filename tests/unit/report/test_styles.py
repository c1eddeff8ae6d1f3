"""The style of an arm: the same on every page, and never that of a timing."""

from __future__ import annotations

from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.timings import Timing
from nccl_bench.report.charts.styles import arm_styles, colour_of, timing_style


def test_an_arm_has_one_style_whatever_arms_stand_beside_it() -> None:
    pages = [["stream-free"], ["before", "after", "stream-free"], ["mine", "torch", "stream-free", "dedicated-stream"]]
    assert {arm_styles(names)["stream-free"] for names in pages} == {1}
    assert arm_styles(["mine"])["mine"] == arm_styles(["torch", "mine"])["mine"]


def test_no_two_arms_of_a_page_share_a_style() -> None:
    names = [*ARMS, "before", "after", *(f"arm-{number}" for number in range(10))]
    assert len(set(arm_styles(names).values())) == len(names)


def test_no_arm_has_the_colour_of_a_timing() -> None:
    names = [*ARMS, "before", "after", *(f"arm-{number}" for number in range(10))]
    of_arms = {colour_of(style) for style in arm_styles(names).values()}
    assert not of_arms & {colour_of(timing_style(timing)) for timing in Timing}
