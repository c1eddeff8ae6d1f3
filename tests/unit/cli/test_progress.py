"""The progress bar."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from nccl_bench.cli.progress import Display, SweepDisplay, case_label
from nccl_bench.config.run import resolve
from nccl_bench.plan.cases import make_plan
from nccl_bench.ranks.progress import Position


def displayed(width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the line of the display in the middle of a long case."""
    config = resolve("cpu", {"collectives": "reduce_scatter", "sizes": "1536K", "dtypes": "bfloat16"})
    cases = make_plan(config, 2).cases
    monkeypatch.setenv("COLUMNS", str(width))
    display = Display(len(cases), lambda index: case_label(cases[index].case))
    display.show(
        [
            Position(
                rank=0,
                local_rank=0,
                host="node0",
                pid=1,
                case_index=0,
                arm="dedicated-stream-wait-stream",
                phase="check before timing, waiting",
            )
        ]
    )
    console = Console(width=width, file=io.StringIO(), legacy_windows=False)
    console.print(display.get_renderable())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_in_80_columns_the_display_cuts_the_label_but_not_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    narrow, wide = displayed(80, monkeypatch), displayed(200, monkeypatch)
    assert narrow.count("\n") == 1
    # A terminal shows a Ctrl-C there.
    assert len(narrow.rstrip("\n")) == 77
    assert re.match(r"0/1 .{12} (-:--:--|\d:\d\d:\d\d) reduce_scatter 1\.5M bfloat16 sum dedicated.*\u2026\s*$", narrow)
    assert "sum dedicated-stream-wait-stream check before timing, waiting" in wide


def test_the_display_of_several_launches_counts_all_of_them_in_the_order_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    cases = make_plan(resolve("cpu", {"sizes": "8,16,32"}), 2).cases
    position = Position(rank=0, local_rank=0, host="node0", pid=1, arm="torch", phase="gated")

    def shown(left: list[tuple[int, ...]], launch: int, case_index: int) -> tuple[float, str]:
        display = SweepDisplay(cases, left)
        display.show_launch(launch, [replace(position, case_index=case_index)])
        (task,) = display.tasks
        assert task.total == 3 * len(left)
        return task.completed, task.description

    everything = [(0, 1, 2), (2, 0, 1)]
    assert shown(everything, 1, 2) == (2, "launch 1 of 2: all_reduce 32 bfloat16 sum torch gated")
    assert shown(everything, 2, -1) == (3, "launch 2 of 2: set-up torch gated")
    assert shown(everything, 2, 0)[0] == 4
    assert shown(everything, 2, 3)[0] == 6
    # A run that is continued has done a part.
    assert shown([(), (0, 1)], 2, 1)[0] == 5
    assert shown([(0, 1, 2)], 1, 1) == (1, "all_reduce 16 bfloat16 sum torch gated")
