"""Gaps: what was requested and is in no table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.gaps import describe_cells, not_measured, unmatched
from nccl_bench.analysis.two_sides import compare_sides
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits
from nccl_bench.records.run import Run
from tests.support.synthetic_runs import case, meta, samples

TWO_PERCENT = Limits(default=0.02)


def comparable(*arms: str, sizes: Sequence[int] = (8,)) -> ComparableRun:
    cells = {
        (case(size), Timing.GATED, arm): dict.fromkeys(range(9), 1.0 + index)
        for index, arm in enumerate(arms)
        for size in sizes
    }
    return ComparableRun(name="run", arms=arms, cells=cells)


def test_every_cell_without_a_counterpart_is_named() -> None:
    before = comparable("torch", "new", "old", sizes=(8, 16, 1024))
    after = comparable("torch", "new", sizes=(16, 4096, 2048))
    assert list(unmatched(compare_sides([before], [after], TWO_PERCENT))) == [
        "missing after the change: new gated all_reduce bfloat16 sum in-place 8, 1K",
        "missing after the change: old gated all_reduce bfloat16 sum in-place 8, 16, 1K",
        "missing before the change: new gated all_reduce bfloat16 sum in-place 2K, 4K",
    ]


def test_a_cell_that_both_sides_have_but_not_every_run_is_not_attributed_to_one_side() -> None:
    sides = compare_sides(
        [comparable("new", sizes=(8, 16)), comparable("new")], [comparable("new", sizes=(8, 16))], TWO_PERCENT
    )
    assert list(unmatched(sides)) == ["not in every run: new gated all_reduce bfloat16 sum in-place 16"]
    assert list(describe_cells("text", [])) == []


@pytest.mark.parametrize(
    ("supports", "says"),
    [
        (["all_reduce in-place"], None),
        ([], "mine does not support all_reduce in-place"),
        (
            ["all_gather out-of-place", "all_reduce out-of-place"],
            "mine does not support all_reduce in-place; it supports all_reduce out-of-place, see --placement",
        ),
    ],
)
def test_what_a_user_arm_does_not_support_is_listed_with_what_it_has(supports: list[str], says: str | None) -> None:
    user_arm = {"arm": "mine", "supports": supports, "where": "a.py:1", "order": "current", "described": "as it is"}
    config = meta()["config"] | {"collectives": ["all_reduce"], "placements": ["in-place"]}
    run = Run(meta=meta() | {"config": config, "worker": {"user_arms": [user_arm]}}, lines=(samples(),))
    assert [text for text in not_measured(run) if text.startswith("mine")] == ([] if says is None else [says])


@pytest.mark.parametrize(
    ("changes", "directory", "text"),
    [
        ({}, Path("a run"), "2 of 2 cases: `nccl-bench run --resume 'a run'` measures them"),
        ({"nnodes": 2}, Path("there"), "2 of 2 cases"),
        ({"mode": "attached: srun"}, Path("there"), "2 of 2 cases"),
        ({}, None, "2 of 2 cases"),
    ],
)
def test_missing_cases_are_listed_always_and_the_command_only_if_it_can_measure_them(
    changes: dict[str, object], directory: Path | None, text: str
) -> None:
    launch = {"mode": "torchrun", "world_size": 2, "nproc": 2, "nnodes": 1} | changes
    run = Run(meta=meta() | {"cases": 2, "launch": launch}, lines=(), directory=directory)
    assert list(not_measured(run))[-1] == text
