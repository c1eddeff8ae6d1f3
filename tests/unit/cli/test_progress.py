"""The progress of a command: the bar in a terminal, the lines in a log, and what they count. The clock is a double."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console

from nccl_bench.cli.progress import Bar, Lines, display_of
from nccl_bench.cli.tracking import Tracker, track_run, track_verification
from nccl_bench.config.run import resolve
from nccl_bench.config.verification import resolve_verification
from nccl_bench.plan.cases import make_plan
from nccl_bench.plan.verification import group_by_launch
from nccl_bench.ranks.progress import Position
from nccl_bench.records.schema import CaseEnd, dump
from tests.support.synthetic_runs import case, samples

POSITION = Position(rank=0, local_rank=0, host="node0", pid=1, arm="torch", phase="gated")


@dataclass
class Clock:
    """A clock that a test moves."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def tracker_of(
    clock: Clock, orders: Sequence[Sequence[int]], samples: Path | None = None, sizes: str = "8,16,32"
) -> Tracker:
    config = resolve("cpu", {"sizes": sizes, "arms": "dedicated-stream,stream-free", "baseline": "dedicated-stream"})
    return track_run(config, make_plan(config, 2), orders, samples=samples, started=clock.now, clock=clock)


def bar_line(bar: Bar, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), legacy_windows=False)
    console.print(bar.get_renderable())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_in_80_columns_the_bar_cuts_the_label_but_neither_the_count_nor_the_times(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for width in (80, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        clock, path = Clock(), tmp_path / "samples.jsonl"
        path.write_text("".join(map(dump, [samples("dedicated-stream"), samples(), CaseEnd(case=case())])))
        bar = Bar(tracker_of(clock, [(0, 1, 2)], path, sizes="8,1M,1G"))
        clock.now += 34
        bar.show([replace(POSITION, case_index=1, arm="dedicated-stream-wait-stream", phase="check before timing")])
        line = bar_line(bar, width)
        assert line.count("\n") == 1
        start = re.match(r"1/3 .{12} 0:34, \d+:\d\d left last 1K gated 1\.00x \| all_reduce 1M bfloat", line)
        assert start, line
        if width == 80:
            # A terminal shows a Ctrl-C in the last columns.
            assert len(line.rstrip("\n")) == 77
            assert line.rstrip().endswith("\u2026")
        else:
            assert line.rstrip().endswith("sum dedicated-stream-wait-stream check before timing")


def test_several_launches_are_counted_together_in_the_order_of_each() -> None:
    def seen(orders: list[tuple[int, ...]], launch: int, case_index: int) -> tuple[int, str]:
        tracker = tracker_of(Clock(), orders)
        tracker.see([replace(POSITION, case_index=case_index)], launch)
        status = tracker.status()
        assert status.total == 3 * len(orders)
        return status.done, status.where

    everything = [(0, 1, 2), (2, 0, 1)]
    assert seen(everything, 1, 2) == (2, "launch 1 of 2: all_reduce 32 bfloat16 sum torch gated")
    assert seen(everything, 2, -1) == (3, "launch 2 of 2: set-up torch gated")
    assert seen(everything, 2, 0)[0] == 4
    assert seen(everything, 2, 3)[0] == 6
    # A run that is continued has done a part.
    assert seen([(), (0, 1)], 2, 1)[0] == 5
    assert seen([(0, 1, 2)], 1, 1) == (1, "all_reduce 16 bfloat16 sum torch gated")


def test_new_ranks_after_a_crash_do_not_lower_the_count_or_raise_the_time_left() -> None:
    clock = Clock()
    tracker = tracker_of(clock, [(0, 1, 2)])
    for index in (-1, 0, 2):
        tracker.see([replace(POSITION, case_index=index)])
        clock.now += 5
    before = tracker.status()
    tracker.see([replace(POSITION, case_index=-1)])
    after = tracker.status()
    assert (after.done, after.left_s, after.share_done) == (before.done, before.left_s, before.share_done) != (0, 0, 0)
    assert after.where == "set-up torch gated"


def test_without_a_terminal_a_line_is_printed_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clock, path = Clock(), tmp_path / "samples.jsonl"
    with Lines(tracker_of(clock, [(0, 1, 2)], path), "case", clock=clock) as lines:
        for second in range(25):
            if second == 12:
                path.write_text("".join(map(dump, [samples("dedicated-stream"), samples(), CaseEnd(case=case())])))
            lines.show([replace(POSITION, case_index=second // 12)])
            clock.now += 1
    first, second_line = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"nccl-bench: 0 of 3 cases, 10 s, about \d+ s left: all_reduce 8 bfloat16 sum torch gated", first
    )
    assert re.fullmatch(
        r"nccl-bench: 1 of 3 cases, 20 s, about \d+ s left: all_reduce 16 bfloat16 sum torch gated; "
        r"stream-free against dedicated-stream: 1K gated 1\.00x",
        second_line,
    )


def test_the_kind_of_display_depends_on_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    assert isinstance(display_of(tracker_of(Clock(), [(0,)]), "case"), Lines)
    monkeypatch.setattr(stderr, "isatty", lambda: True)
    assert isinstance(display_of(tracker_of(Clock(), [(0,)]), "case"), Bar)


def test_a_verification_counts_the_probes_that_an_earlier_command_ran() -> None:
    config = resolve_verification("cpu", {"arms": "torch"})
    probes = [each for group in group_by_launch(config) for each in group]
    clock = Clock()
    tracker = track_verification(config, probes[:3], clock)
    assert (tracker.status().done, tracker.status().total) == (3, len(probes))
    tracker.see([replace(POSITION, case_index=5, phase="many")])
    status = tracker.status()
    assert (status.done, status.where) == (5, "torch many")
    assert 0 < status.left_s < len(probes) * 10


def test_a_quiet_command_prints_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Lines(tracker_of(clock, [(0, 1, 2)]), "case", is_silent=True, clock=clock) as lines:
        clock.now += 25
        lines.show([POSITION])
    assert capsys.readouterr().err == ""
