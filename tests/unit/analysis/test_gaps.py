"""Gaps: what was requested and is in no table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.gaps import describe_cells, not_measured, unmatched
from nccl_bench.analysis.two_sides import compare_sides
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Line
from tests.support.synthetic_runs import case, declined, meta, run, samples

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
        "gated of new, all_reduce bfloat16 sum, 8 B and 1 KiB: before only",
        "gated of old, all_reduce bfloat16 sum, 8 B to 1 KiB: before only",
        "gated of new, all_reduce bfloat16 sum, 2 KiB to 4 KiB: after only",
    ]


def test_cells_that_differ_in_size_timing_or_arm_share_a_text() -> None:
    sizes = [8 * 2**step for step in range(28)]
    known = [(case(size), timing, arm) for size in sizes for timing in Timing for arm in ("torch", "torch-async")]
    cells = [(*cell,) for cell in known if cell[1] in (Timing.GRAPH, Timing.EAGER)]
    assert list(describe_cells(cells, known)) == [
        "eager and graph of torch and torch-async, all_reduce bfloat16 sum, all 28 sizes"
    ]
    # An arm or a timing that lacks fewer sizes has a text of its own.
    fewer = [cell for cell in cells if cell[1:] != (Timing.GRAPH, "torch") or cell[0].size_bytes < 64]
    assert list(describe_cells(fewer, known)) == [
        "eager of torch, all_reduce bfloat16 sum, all 28 sizes",
        "eager and graph of torch-async, all_reduce bfloat16 sum, all 28 sizes",
        "graph of torch, all_reduce bfloat16 sum, 8 B to 32 B",
    ]
    scattered = [cell for index, cell in enumerate(known[::8]) if index % 2]
    assert list(describe_cells(scattered, known)) == [
        "eager of torch, all_reduce bfloat16 sum, 14 of the 28 sizes from 16 B to 1 GiB"
    ]


def test_a_cell_that_both_sides_have_but_not_every_run_is_not_attributed_to_one_side() -> None:
    sides = compare_sides(
        [comparable("new", sizes=(8, 16)), comparable("new")], [comparable("new", sizes=(8, 16))], TWO_PERCENT
    )
    assert list(unmatched(sides)) == ["gated of new, all_reduce bfloat16 sum, 16 B: not in every run"]
    assert list(describe_cells([], [])) == []


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


@pytest.mark.parametrize("kind", ["lacking", "misfits"])
def test_a_collective_that_a_user_arm_does_not_support_is_listed_with_the_reason(kind: str) -> None:
    user_arm = {"arm": "mine", "supports": ["all_reduce in-place"], kind: {"all_gather": "why", "broadcast": "why"}}
    config = meta()["config"] | {"collectives": ["all_reduce", "all_gather"], "placements": ["in-place"]}
    run = Run(meta=meta() | {"config": config, "worker": {"user_arms": [user_arm]}}, lines=(samples(),))
    texts = [text for text in not_measured(run) if text.startswith("mine")]
    assert texts == ["mine does not support all_gather: why"]


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


TAKEN = {"arm": "mine", "timing": Timing.EAGER}


@pytest.mark.parametrize(
    ("taken", "refused", "says"),
    [
        ((8, 1024), (), None),
        ((8, 1024), (2048, 4096), "from 2K on: "),
        ((4096, 8192), (8, 16), "up to 16: "),
        ((1024,), (8, 2048), "of 8, 2K: "),
        ((), (8, 16), "of every size: "),
    ],
)
def test_what_an_arm_declines_is_one_line_with_the_sizes(
    taken: Sequence[int], refused: Sequence[int], says: str | None
) -> None:
    lines = [samples(case=case(size), **TAKEN) for size in taken]
    lines += [declined(case=case(size), **TAKEN) for size in refused]
    lines += [declined(case=case(size), arm="mine:twin", timing=Timing.EAGER) for size in refused]
    expected = [f"mine declines all_reduce bfloat16 sum in-place {says}all_reduce returned None"] if says else []
    assert list(not_measured(run(lines))) == expected


def test_a_size_that_is_declined_in_some_timings_only_names_these_timings() -> None:
    timings = (Timing.EAGER, Timing.GATED, Timing.GRAPH)
    lines = [samples("mine", timing, case=case(8)) for timing in timings]
    lines += [samples("mine", timing, case=case(16)) for timing in timings[:1]]
    lines += [declined(arm="mine", timing=timing, case=case(16)) for timing in timings[1:]]
    assert list(not_measured(run(lines))) == [
        "mine declines all_reduce bfloat16 sum in-place from 16 on in gated and graph: all_reduce returned None"
    ]


def test_a_candidate_may_decline_some_cases_but_not_all() -> None:
    def incomplete(*lines: Line) -> bool:
        base = [samples("torch", case=case(size)) for size in (8, 16)]
        return Analysis.of(run([*base, *lines], baseline="torch", arms=["torch", "mine"])).candidate_incomplete

    right, refused = samples("mine", case=case(8)), declined(arm="mine", case=case(16))
    assert not incomplete(right, refused)
    assert incomplete(right)
    assert incomplete(refused, declined(arm="mine", case=case(8)))
